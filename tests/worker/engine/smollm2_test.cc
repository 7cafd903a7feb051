#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/smollm2_golden.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

// A cache that holds the whole golden text, so that the cascade forgets nothing.
RankOptions Options(int tensor_parallel) {
  RankOptions options;
  options.model_path = SmolLm2Path();
  options.threads = tensor_parallel == 1 ? 2 : 1;
  options.tensor_parallel = tensor_parallel;
  options.engine.max_sessions = 1;
  options.engine.cascade = {.sinks = 64, .slots = 6144, .sub_caches = 4, .stride = 256};
  return options;
}

TEST(SmolLm2Test, LogprobsEqualAnIndependentProgram) {
  const SmolLm2Golden golden = LoadSmolLm2Golden();
  TestGroup group(Options(1));
  ASSERT_TRUE(group.leader().OpenSession("s", group.rank(0).options().engine.cascade).ok());
  const RunResult result = Score(group.leader(), "s", golden.tokens);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.scores.size(), golden.tokens.size());
  EXPECT_GE(golden.tokens.size(), 2000u);
  EXPECT_TRUE(std::isnan(result.scores[0].logprob));
  double sum = 0;
  double largest = 0;
  for (size_t i = 0; i < golden.logprobs.size(); ++i) {
    const double difference = std::abs(result.scores[i + 1].logprob - golden.logprobs[i]);
    sum += difference;
    largest = std::max(largest, difference);
  }
  RecordProperty("mean_difference", std::to_string(sum / golden.logprobs.size()));
  EXPECT_LE(sum / golden.logprobs.size(), 0.01);
  EXPECT_LE(largest, 0.1);
  std::printf("mean difference %.2e, largest %.2e\n", sum / golden.logprobs.size(), largest);
}

TEST(SmolLm2Test, GreedyAnswersAreTheSame) {
  const SmolLm2Golden golden = LoadSmolLm2Golden();
  TestGroup group(Options(1));
  Engine& engine = group.leader();
  for (const GoldenContinuation& expected : golden.greedy) {
    ASSERT_TRUE(engine.OpenSession("s", group.rank(0).options().engine.cascade).ok());
    const GenerateOptions options = ExactlyTokens(expected.continuation_tokens.size());
    const RunResult result = Generate(engine, "s", options, expected.prompt_tokens);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens, expected.continuation_tokens);
    for (size_t i = 0; i < result.logprobs.size(); ++i) {
      EXPECT_NEAR(result.logprobs[i], expected.logprobs[i], 0.01) << i;
    }
    ASSERT_TRUE(engine.CloseSession("s").ok());
  }
}

// Past the cache: three ranks against one, on real text.
TEST(SmolLm2Test, ThreeRanksEqualOne) {
  const SmolLm2Golden golden = LoadSmolLm2Golden();
  const std::vector<int32_t> text(golden.tokens.begin(), golden.tokens.begin() + 1500);
  std::vector<TokenLogprob> scores[2];
  std::vector<std::vector<HeadMemory>> memories[2];
  for (int i = 0; i < 2; ++i) {
    RankOptions options = Options(i == 0 ? 1 : 3);
    options.engine.cascade = {.sinks = 16, .slots = 256, .sub_caches = 4, .stride = 128};
    TestGroup group(options);
    ASSERT_TRUE(group.leader().OpenSession("s", options.engine.cascade).ok());
    const RunResult result = Score(group.leader(), "s", text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    scores[i] = result.scores;
    for (int layer = 0; layer < group.rank(0).model_config().layers; ++layer) {
      memories[i].push_back(*group.leader().Inspect("s", layer));
    }
  }

  double sum = 0;
  for (size_t t = 1; t < text.size(); ++t) {
    sum += std::abs(scores[0][t].logprob - scores[1][t].logprob);
  }
  EXPECT_LE(sum / (text.size() - 1), 1e-3);
  int64_t kept = 0;
  int64_t same = 0;
  for (size_t layer = 0; layer < memories[0].size(); ++layer) {
    ASSERT_EQ(memories[0][layer].size(), 3u);
    ASSERT_EQ(memories[1][layer].size(), 3u);
    for (int head = 0; head < 3; ++head) {
      const std::vector<int64_t>& one = memories[0][layer][head].tokens;
      const std::vector<int64_t>& three = memories[1][layer][head].tokens;
      ASSERT_EQ(one.size(), 272u);
      std::vector<int64_t> both;
      std::set_intersection(one.begin(), one.end(), three.begin(), three.end(),
                            std::back_inserter(both));
      kept += 272;
      same += both.size();
    }
  }
  EXPECT_GE(same, 0.999 * kept);
  std::printf("mean difference %.2e, %ld of %ld kept tokens the same\n", sum / (text.size() - 1),
              same, kept);
}

}  // namespace
}  // namespace weir
