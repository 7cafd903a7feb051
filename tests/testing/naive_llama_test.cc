// The reference itself. Its agreement with an independent program on a real model was shown once:
// 150 tokens of the golden text, through SmolLM2's dequantised weights, differ from
// golden/smollm2_logprobs.json by at most 1.7e-5.

#include "tests/testing/naive_llama.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/random_model.h"

namespace weir {
namespace {

NaiveLlamaConfig SmallConfig() {
  return {.layers = 2,
          .hidden = 32,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 8,
          .ffn = 64,
          .vocabulary = 50};
}

TEST(NaiveLlamaTest, InsideTheCacheTheStrideDoesNotMatter) {
  const NaiveLlamaModel model = MakeRandomModel(SmallConfig(), /*seed=*/1);
  const std::vector<int> tokens = RandomTokens(40, 50, /*seed=*/2);
  NaiveCascadeSettings settings = {.sinks = 2, .slots = 48, .sub_caches = 3, .stride = 1};
  const auto one_by_one = NaiveLlamaSession(model, settings).Append(tokens);
  settings.stride = 7;
  const auto in_chunks = NaiveLlamaSession(model, settings).Append(tokens);
  ASSERT_EQ(one_by_one.size(), tokens.size());
  ASSERT_EQ(in_chunks.size(), tokens.size());
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (int v = 0; v < 50; ++v) EXPECT_NEAR(one_by_one[t][v], in_chunks[t][v], 1e-10);
  }
}

TEST(NaiveLlamaTest, PastTheCacheKvHeadsForgetDifferentTokens) {
  const NaiveLlamaModel model = MakeRandomModel(SmallConfig(), /*seed=*/3);
  NaiveLlamaSession session(model, {.sinks = 2, .slots = 24, .sub_caches = 3, .stride = 5});
  session.Append(RandomTokens(200, 50, /*seed=*/4));
  EXPECT_EQ(session.cache(0, 0).KeptIndices().size(), 26u);
  EXPECT_NE(session.cache(0, 0).KeptIndices(), session.cache(0, 1).KeptIndices());
  EXPECT_NE(session.cache(0, 0).KeptIndices(), session.cache(1, 0).KeptIndices());
}

// Each query gives its keys a probability of 1 in all, so with one query head per KV head and no
// decay the scores of all tokens together are the number of queries.
TEST(NaiveLlamaTest, ScoresAddUpToTheQueries) {
  NaiveLlamaConfig config = SmallConfig();
  config.kv_heads = config.heads;
  const NaiveLlamaModel model = MakeRandomModel(config, /*seed=*/5);
  NaiveLlamaSession session(model, {.sinks = 2, .slots = 48, .sub_caches = 3, .stride = 6});
  session.Append(RandomTokens(20, 50, /*seed=*/6));
  double sum = 0.0;
  for (const NaiveCachedToken& token : session.cache(1, 2).sinks()) sum += token.score;
  for (int i = 0; i < 3; ++i) {
    for (const NaiveCachedToken& token : session.cache(1, 2).ring(i)) sum += token.score;
  }
  EXPECT_NEAR(sum, 20.0, 1e-9);
}

TEST(NaiveLlamaTest, DecayWeighsEarlierQueriesLess) {
  NaiveLlamaConfig config = SmallConfig();
  config.kv_heads = config.heads;
  const NaiveLlamaModel model = MakeRandomModel(config, /*seed=*/7);
  NaiveLlamaSession session(model,
                            {.sinks = 2, .slots = 48, .sub_caches = 3, .stride = 3, .beta = 0.5});
  session.Append(RandomTokens(5, 50, /*seed=*/8));  // chunks of 3 and 2
  double sum = 0.0;
  for (const NaiveCachedToken& token : session.cache(0, 0).sinks()) sum += token.score;
  for (const NaiveCachedToken& token : session.cache(0, 0).ring(0)) sum += token.score;
  EXPECT_NEAR(sum, 1.0 + 0.5 + 0.25 + 0.125 + 0.0625, 1e-12);
}

TEST(NaiveLlamaTest, LogSoftmaxIsNormalized) {
  const std::vector<double> logprobs = NaiveLogSoftmax({1000.0, 1001.0});
  EXPECT_NEAR(logprobs[1] - logprobs[0], 1.0, 1e-12);
  EXPECT_NEAR(std::exp(logprobs[0]) + std::exp(logprobs[1]), 1.0, 1e-12);
}

}  // namespace
}  // namespace weir
