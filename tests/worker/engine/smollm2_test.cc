#include <cmath>
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
  options.threads = 2 / tensor_parallel + 1 / tensor_parallel;
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

}  // namespace
}  // namespace weir
