#include "worker/engine/generation.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"

namespace weir {
namespace {

constexpr int32_t kImEnd = 2;

int32_t Byte(unsigned char byte) { return 3 + byte; }

class GenerationTest : public testing::Test {
 protected:
  GenerationTest() {
    const std::string path = testing::TempDir() + "/generation_test.gguf";
    GgufWriter writer;
    AddByteLevelTokenizer(writer);
    writer.WriteFile(path);
    tokenizer_ = *Tokenizer::FromGguf(**GgufFile::Open(path));
  }

  // Makes the generation choose `token`: the likeliest, all others alike.
  static Generation::Outcome Choose(Generation& generation, int32_t token) {
    LogitsSummary summary;
    summary.max = 10;
    summary.sum = 1 + (kLeastVocabulary - 1) * std::exp(-10.0);
    summary.tempered_sum = summary.sum;
    summary.likeliest = {{10, token}, {0, token == 0 ? 1 : 0}};
    absl::StatusOr<Generation::Outcome> outcome = generation.Next(summary, 0);
    EXPECT_TRUE(outcome.ok());
    EXPECT_EQ(outcome->token.kind, RunEvent::Kind::kToken);
    EXPECT_EQ(outcome->token.token, token);
    return *outcome;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(GenerationTest, TextComesInWholeCharacters) {
  Generation generation({.max_tokens = 4}, tokenizer_.get());
  EXPECT_EQ(Choose(generation, Byte('a')).token.text, "a");
  EXPECT_EQ(Choose(generation, Byte(0xc3)).token.text, "");
  EXPECT_EQ(Choose(generation, Byte(0xa9)).token.text, "\xc3\xa9");
  const Generation::Outcome last = Choose(generation, Byte(0xe2));
  EXPECT_EQ(last.token.text, "");
  ASSERT_TRUE(last.finished.has_value());
  EXPECT_EQ(last.finished->reason, FinishReason::kMaxTokens);
  EXPECT_EQ(last.finished->text, "\xef\xbf\xbd");
  EXPECT_EQ(last.finished->tokens_generated, 4);
}

TEST_F(GenerationTest, TheEndTokenHasNoTextAndReleasesWhatWasHeldBack) {
  Generation generation({.stop = {"abc"}}, tokenizer_.get());
  EXPECT_EQ(Choose(generation, Byte('a')).token.text, "");
  EXPECT_EQ(Choose(generation, Byte('b')).token.text, "");
  const Generation::Outcome last = Choose(generation, kImEnd);
  EXPECT_EQ(last.token.text, "");
  ASSERT_TRUE(last.finished.has_value());
  EXPECT_EQ(last.finished->reason, FinishReason::kEndToken);
  EXPECT_EQ(last.finished->text, "ab");
}

TEST_F(GenerationTest, AStopTextAcrossTokensIsNotPartOfTheText) {
  Generation generation({.stop = {"xyz", "bcd"}}, tokenizer_.get());
  EXPECT_EQ(Choose(generation, Byte('a')).token.text, "a");
  EXPECT_EQ(Choose(generation, Byte('b')).token.text, "");
  EXPECT_EQ(Choose(generation, Byte('c')).token.text, "");
  const Generation::Outcome last = Choose(generation, Byte('d'));
  EXPECT_EQ(last.token.text, "");
  ASSERT_TRUE(last.finished.has_value());
  EXPECT_EQ(last.finished->reason, FinishReason::kStopText);
  EXPECT_EQ(last.finished->text, "");
}

TEST_F(GenerationTest, AnIgnoredEndTokenIsOneLikeOthers) {
  Generation generation({.max_tokens = 2, .ignore_end_token = true}, tokenizer_.get());
  EXPECT_FALSE(Choose(generation, kImEnd).finished.has_value());
  EXPECT_EQ(Choose(generation, kImEnd).finished->reason, FinishReason::kMaxTokens);
}

TEST_F(GenerationTest, LogprobsWhereAskedFor) {
  Generation without({}, tokenizer_.get());
  EXPECT_TRUE(Choose(without, Byte('a')).token.top_logprobs.empty());
  Generation with({.top_logprobs = 2}, tokenizer_.get());
  const RunEvent token = Choose(with, Byte('a')).token;
  const double expected = 10 - std::log(std::exp(10.0) + kLeastVocabulary - 1);
  EXPECT_NEAR(token.logprob, expected, 1e-5);
  ASSERT_EQ(token.top_logprobs.size(), 2u);
  EXPECT_EQ(token.top_logprobs[0].token, Byte('a'));
  EXPECT_EQ(token.top_logprobs[1].token, 0);
  EXPECT_NEAR(token.top_logprobs[1].logprob, expected - 10, 1e-5);
}

}  // namespace
}  // namespace weir
