// A model with random weights, made from a config.json, on one rank and on two.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/random_model.h"
#include "tests/testing/small_config.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 24, .sub_caches = 3, .stride = 8};

RankOptions Options(int tensor_parallel) {
  RankOptions options;
  options.model_path = testing::TempDir() + "/config.json";
  WriteConfig(options.model_path);
  options.load_format = "dummy";
  options.tensor_parallel = tensor_parallel;
  options.engine.cascade = kCascade;
  return options;
}

TEST(DummyEngineTest, ScoresAndGeneratesAlikeOnAnyNumberOfRanks) {
  const std::vector<int32_t> text = RandomTokens(200, 300, 1);
  std::vector<RunResult> scores, answers;
  for (int ranks : {1, 2}) {
    TestGroup group(Options(ranks));
    ASSERT_TRUE(group.leader().OpenSession("s", kCascade).ok());
    scores.push_back(Score(group.leader(), "s", text));
    answers.push_back(Generate(group.leader(), "s", ExactlyTokens(40, 1, 7)));
    ASSERT_TRUE(scores.back().status.ok()) << scores.back().status;
    ASSERT_TRUE(answers.back().status.ok()) << answers.back().status;
  }
  ASSERT_EQ(scores[0].scores.size(), text.size());
  ASSERT_EQ(scores[1].scores.size(), text.size());
  for (size_t i = 1; i < text.size(); ++i) {
    const float logprob = scores[0].scores[i].logprob;
    ASSERT_TRUE(std::isfinite(logprob)) << i;
    EXPECT_LT(logprob, 0);
    EXPECT_NEAR(scores[1].scores[i].logprob, logprob, 1e-4) << i;
  }
  EXPECT_EQ(answers[0].tokens.size(), 40u);
  EXPECT_EQ(answers[1].tokens, answers[0].tokens);
  ASSERT_EQ(answers[1].logprobs.size(), answers[0].logprobs.size());
  for (size_t i = 0; i < answers[0].logprobs.size(); ++i) {
    EXPECT_NEAR(answers[1].logprobs[i], answers[0].logprobs[i], 1e-4) << i;
  }
}

TEST(DummyEngineTest, IsCutToItsFirstLayers) {
  RankOptions options = Options(1);
  options.dummy_layers = 1;
  const TestGroup group(options);
  EXPECT_EQ(group.rank(0).model_config().layers, 1);
}

}  // namespace
}  // namespace weir
