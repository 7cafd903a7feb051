#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/naive_llama.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

struct Scenario {
  NaiveLlamaConfig model;
  CascadeConfig cascade;
};

int Between(std::mt19937_64& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

Scenario RandomScenario(std::mt19937_64& random) {
  Scenario scenario;
  NaiveLlamaConfig& model = scenario.model;
  model.layers = Between(random, 1, 3);
  model.kv_heads = Between(random, 1, 3);
  model.heads = model.kv_heads * Between(random, 1, 3);
  model.head_dim = 8 * Between(random, 1, 3);
  model.hidden = 16 * Between(random, 1, 3);
  model.ffn = 16 * Between(random, 1, 4);
  model.vocabulary = kLeastVocabulary + Between(random, 0, 9);
  model.rope_base = 1000.0;

  CascadeConfig& cascade = scenario.cascade;
  const int sub_caches[] = {1, 2, 4};
  cascade.sub_caches = sub_caches[Between(random, 0, 2)];
  cascade.slots = cascade.sub_caches * Between(random, 1, 9);
  cascade.sinks = Between(random, 0, 5);
  cascade.stride = Between(random, 1, 12);
  const double betas[] = {0.9, 0.999, 1.0};
  cascade.beta = betas[Between(random, 0, 2)];
  cascade.head_reduction = Between(random, 0, 1) == 0 ? HeadReduction::kMax : HeadReduction::kMean;
  return scenario;
}

NaiveCascadeSettings NaiveSettings(const CascadeConfig& cascade) {
  return {.sinks = cascade.sinks,
          .slots = cascade.slots,
          .sub_caches = cascade.sub_caches,
          .stride = cascade.stride,
          .beta = cascade.beta,
          .head_reduction = cascade.head_reduction == HeadReduction::kMax
                                ? NaiveHeadReduction::kMax
                                : NaiveHeadReduction::kMean};
}

// One session in the engine and, step by step, in the naive reference.
class Pair {
 public:
  Pair(Engine& engine, const NaiveLlamaModel& model, const CascadeConfig& cascade)
      : engine_(engine), config_(model.config), naive_(model, NaiveSettings(cascade)) {
    EXPECT_TRUE(engine.OpenSession("s", cascade).ok());
  }

  void Append(const std::vector<int>& text) {
    const RunResult result = weir::Append(engine_, "s", text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens_read, text.size());
    ReadPending();
    Take(naive_.Append(text));
  }

  void Score(const std::vector<int>& text) {
    const RunResult result = weir::Score(engine_, "s", text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.scores.size(), text.size());
    ReadPending();
    for (const std::vector<double>& logits : naive_.Append(text)) {
      const size_t i = token_++;
      EXPECT_EQ(result.scores[i].token, text[i]);
      if (next_.empty()) {
        EXPECT_TRUE(std::isnan(result.scores[i].logprob));
      } else {
        EXPECT_NEAR(result.scores[i].logprob, NaiveLogSoftmax(next_)[text[i]], 1e-4);
      }
      next_ = logits;
    }
    token_ = 0;
  }

  void Generate(int count, double temperature, const std::vector<int>& text) {
    const RunResult result =
        weir::Generate(engine_, "s", ExactlyTokens(count, temperature, 7), text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.tokens.size(), count);
    ReadPending();
    Take(naive_.Append(text));
    for (int i = 0; i < count; ++i) {
      ReadPending();
      const std::vector<double> expected = NaiveLogSoftmax(next_);
      EXPECT_NEAR(result.logprobs[i], expected[result.tokens[i]], 1e-4);
      ASSERT_EQ(result.top[i].size(), 3u);
      for (const TokenLogprob& top : result.top[i]) {
        EXPECT_NEAR(top.logprob, expected[top.token], 1e-4);
      }
      pending_ = {result.tokens[i]};
    }
  }

  void ExpectSameMemory() {
    const int64_t filled = naive_.cache(0, 0).KeptIndices().size();
    EXPECT_EQ(engine_.Describe("s")->tokens_cached, filled);
    for (int layer = 0; layer < config_.layers; ++layer) {
      const absl::StatusOr<std::vector<HeadMemory>> heads = engine_.Inspect("s", layer);
      ASSERT_TRUE(heads.ok()) << heads.status();
      ASSERT_EQ(heads->size(), config_.kv_heads);
      for (int head = 0; head < config_.kv_heads; ++head) {
        const HeadMemory& memory = (*heads)[head];
        EXPECT_EQ(memory.kv_head, head);
        EXPECT_EQ(memory.tokens, naive_.cache(layer, head).KeptIndices())
            << "layer " << layer << " head " << head;
      }
    }
  }

 private:
  // The token generated last is read before anything else.
  void ReadPending() {
    if (!pending_.empty()) Take(naive_.Append(pending_));
    pending_.clear();
  }
  void Take(const std::vector<std::vector<double>>& logits) {
    if (!logits.empty()) next_ = logits.back();
  }

  Engine& engine_;
  const NaiveLlamaConfig config_;
  NaiveLlamaSession naive_;
  std::vector<int> pending_;
  std::vector<double> next_;  // logits of the next token
  size_t token_ = 0;
};

class NaiveReferenceTest : public testing::TestWithParam<int> {};

TEST_P(NaiveReferenceTest, SameMemoryAndLogprobsFarPastTheCache) {
  std::mt19937_64 random(GetParam());
  const Scenario scenario = RandomScenario(random);
  const NaiveLlamaModel model = MakeRandomModel(scenario.model, GetParam());
  RankOptions options;
  options.model_path = WriteModel(model, absl::StrCat("naive_reference_", GetParam()));
  options.engine.max_sessions = 2;
  options.engine.cascade = scenario.cascade;
  TestGroup group(options);
  Pair pair(group.leader(), model, scenario.cascade);

  const int lengths = 3 * scenario.cascade.total_slots() + 2 * scenario.cascade.stride;
  for (int part = 0; part < 8; ++part) {
    const std::vector<int> text =
        RandomTokens(Between(random, 1, lengths), scenario.model.vocabulary, random());
    switch (part % 4) {
      case 0:
        pair.Append(text);
        break;
      case 1:
        pair.Score(text);
        break;
      case 2:
        pair.Generate(Between(random, 1, 12), part < 4 ? 0.0 : 1.0, text);
        break;
      case 3:
        pair.Generate(Between(random, 1, 12), 0.8, {});
        break;
    }
    pair.ExpectSameMemory();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, NaiveReferenceTest, testing::Range(0, 40));

}  // namespace
}  // namespace weir
