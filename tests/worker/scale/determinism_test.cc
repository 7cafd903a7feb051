// The same calls give the same tokens, bit for bit: on one thread or several, alone or beside other
// sessions.

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/weight_type.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/smollm2_golden.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

struct Talk {
  std::vector<TokenLogprob> scores;
  RunResult answers[2];
  std::vector<HeadMemory> memory;  // of the last layer
};

// What one session does: a text far past the cache, two answers, another text between them.
Talk RunTalk(const TestGroup& group, Engine& engine, const std::string& id,
             const std::vector<int32_t>& text, int answer_tokens) {
  Talk talk;
  EXPECT_TRUE(engine.OpenSession(id, group.rank(0).options().engine.cascade).ok());
  const RunResult read = Score(engine, id, text);
  EXPECT_TRUE(read.status.ok()) << read.status;
  talk.scores = read.scores;
  for (RunResult& answer : talk.answers) {
    const std::vector<int32_t> question(text.begin(), text.begin() + 5);
    answer = Generate(engine, id, ExactlyTokens(answer_tokens, /*temperature=*/0.8, /*seed=*/3),
                      question);
    EXPECT_TRUE(answer.status.ok()) << answer.status;
  }
  talk.memory = *engine.Inspect(id, group.rank(0).model_config().layers - 1);
  return talk;
}

void ExpectSame(const Talk& actual, const Talk& expected) {
  ASSERT_EQ(actual.scores.size(), expected.scores.size());
  for (size_t i = 1; i < expected.scores.size(); ++i) {
    ASSERT_EQ(actual.scores[i].logprob, expected.scores[i].logprob) << i;
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(actual.answers[i].tokens, expected.answers[i].tokens);
    EXPECT_EQ(actual.answers[i].logprobs, expected.answers[i].logprobs);
    EXPECT_EQ(actual.answers[i].text, expected.answers[i].text);
  }
  ASSERT_EQ(actual.memory.size(), expected.memory.size());
  for (size_t head = 0; head < expected.memory.size(); ++head) {
    EXPECT_EQ(actual.memory[head].tokens, expected.memory[head].tokens);
    EXPECT_EQ(actual.memory[head].scores, expected.memory[head].scores);
  }
}

// The talk on an idle engine of one thread, then with each number of threads alone and with
// `neighbours` sessions that read and answer all the while.
void ExpectDeterminism(RankOptions options, const std::vector<int>& threads, int neighbours,
                       const std::vector<int32_t>& text, int answer_tokens) {
  options.engine.max_sessions = neighbours + 1;
  options.threads = 1;
  Talk expected;
  {
    TestGroup group(options);
    expected = RunTalk(group, group.leader(), "alone", text, answer_tokens);
  }
  for (int count : threads) {
    SCOPED_TRACE(absl::StrCat(count, " threads"));
    options.threads = count;
    TestGroup group(options);
    Engine& engine = group.leader();
    if (count != 1) {
      ExpectSame(RunTalk(group, engine, "alone", text, answer_tokens), expected);
      ASSERT_TRUE(engine.CloseSession("alone").ok());
    }

    std::atomic<bool> done = false;
    std::vector<std::thread> others;
    for (int i = 0; i < neighbours; ++i) {
      others.emplace_back([&, i] {
        const std::string id = absl::StrCat("neighbour", i);
        EXPECT_TRUE(engine.OpenSession(id, options.engine.cascade).ok());
        while (!done) {
          const size_t length = 3 + 7 * i;
          EXPECT_TRUE(Append(engine, id, absl::MakeConstSpan(text).first(length)).status.ok());
          EXPECT_TRUE(Generate(engine, id, ExactlyTokens(2 + i, 1.0, i)).status.ok());
        }
      });
    }
    ExpectSame(RunTalk(group, engine, "busy", text, answer_tokens), expected);
    done = true;
    for (std::thread& other : others) other.join();
  }
}

class DeterminismTest : public testing::TestWithParam<WeightType> {};

TEST_P(DeterminismTest, ThreadsAndNeighboursChangeNothing) {
  const NaiveLlamaConfig config = {.layers = 2,
                                   .hidden = 96,
                                   .heads = 6,
                                   .kv_heads = 3,
                                   .head_dim = 32,
                                   .ffn = 160,
                                   .vocabulary = kLeastVocabulary};
  const WeightType type = GetParam();
  RankOptions options;
  options.model_path = WriteModel(MakeRandomModel(config, 1, type, type),
                                  absl::StrCat("determinism_", WeightTypeName(type)),
                                  {.matrices = type, .embedding = type});
  options.engine.cascade = {.sinks = 3, .slots = 96, .sub_caches = 4, .stride = 48};
  ExpectDeterminism(options, {1, 2, 3}, /*neighbours=*/9, RandomTokens(1000, kLeastVocabulary, 5),
                    /*answer_tokens=*/60);
}

INSTANTIATE_TEST_SUITE_P(WeightTypes, DeterminismTest,
                         testing::Values(WeightType::kF32, WeightType::kF16, WeightType::kBF16,
                                         WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1),
                         [](const auto& info) { return std::string(WeightTypeName(info.param)); });

TEST(SmolLm2DeterminismTest, ThreadsAndNeighboursChangeNothing) {
  const SmolLm2Golden golden = LoadSmolLm2Golden();
  RankOptions options;
  options.model_path = SmolLm2Path();
  options.engine.cascade = {.sinks = 16, .slots = 128, .sub_caches = 4, .stride = 64};
  const std::vector<int32_t> text(golden.tokens.begin(), golden.tokens.begin() + 500);
  ExpectDeterminism(options, {2}, /*neighbours=*/3, text, /*answer_tokens=*/24);
}

}  // namespace
}  // namespace weir
