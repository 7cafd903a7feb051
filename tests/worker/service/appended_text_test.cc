#include "worker/service/appended_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/worker/service/test_leader.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

std::string RandomText(std::mt19937_64& random, int pieces) {
  const std::vector<std::string> parts = {"the ",       "hen",  " and",   " running",
                                          "  ",         "\n\n", "\u00e9", "\u20ac",
                                          "\U0001f600", "42",   " a"};
  std::string text;
  for (int i = 0; i < pieces; ++i) text += parts[random() % parts.size()];
  return text;
}

class AppendedTextTest : public ::testing::Test {
 protected:
  absl::Status Receive(int64_t offset, const std::string& bytes) {
    return text_.Receive(offset, bytes, /*begins_session=*/true);
  }

  TestLeader leader_;
  AppendedText text_{leader_.tokenizer()};
};

TEST_F(AppendedTextTest, PiecesCutAnywhereGiveTheTokensOfTheWholeText) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 50; ++trial) {
    AppendedText text(leader_.tokenizer());
    const std::string whole = RandomText(random, 60);
    for (size_t at = 0; at < whole.size();) {
      const size_t size = random() % 7;
      ASSERT_TRUE(text.Receive(at, whole.substr(at, size), true).ok());
      at = std::min(at + size, whole.size());
    }
    ASSERT_TRUE(text.End().ok());
    EXPECT_EQ(text.pending(), leader_.Encode(whole));
    EXPECT_EQ(text.appended_bytes(), static_cast<int64_t>(whole.size()));
  }
}

TEST_F(AppendedTextTest, RepeatedAndOverlappingPiecesAndBreaksChangeNothing) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    AppendedText text(leader_.tokenizer());
    const std::string whole = RandomText(random, 60);
    const int64_t size = static_cast<int64_t>(whole.size());
    while (text.appended_bytes() < size) {
      const int64_t from = text.appended_bytes() == 0 ? 0 : random() % (text.appended_bytes() + 1);
      ASSERT_TRUE(text.Receive(from, whole.substr(from, random() % 40), true).ok());
      text.Break();
    }
    ASSERT_TRUE(text.End().ok());
    EXPECT_EQ(text.pending(), leader_.Encode(whole));
  }
}

TEST_F(AppendedTextTest, AGapIsRefusedAndNamesBothOffsets) {
  ASSERT_TRUE(Receive(0, "hello").ok());
  const absl::Status gap = Receive(9, "world");
  EXPECT_EQ(gap.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(gap.message()), HasSubstr("9"));
  EXPECT_THAT(std::string(gap.message()), HasSubstr("5"));
  ASSERT_TRUE(Receive(5, " world").ok());
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.pending(), leader_.Encode("hello world"));
}

TEST_F(AppendedTextTest, ANegativeOffsetIsRefused) {
  EXPECT_EQ(Receive(-1, "a").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(text_.state(), AppendedText::State::kNone);
}

TEST_F(AppendedTextTest, InvalidUtf8IsNamedByOffsetAndHarmsNothingBeforeIt) {
  ASSERT_TRUE(Receive(0, "good ").ok());
  const absl::Status bad = Receive(5, "also\xff rest");
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), HasSubstr("offset 9"));
  EXPECT_EQ(text_.appended_bytes(), 9);
  EXPECT_TRUE(text_.open());
  ASSERT_TRUE(Receive(9, " fine").ok());
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.pending(), leader_.Encode("good also fine"));
}

TEST_F(AppendedTextTest, ACharacterBrokenBetweenPiecesIsNamedByItsFirstByte) {
  ASSERT_TRUE(Receive(0, "ab\xe2\x82").ok());
  EXPECT_EQ(text_.appended_bytes(), 2);
  const absl::Status bad = Receive(4, "c");
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), HasSubstr("offset 2"));
  ASSERT_TRUE(Receive(2, "\u20acc").ok());
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.pending(), leader_.Encode("ab\u20acc"));
}

TEST_F(AppendedTextTest, ATextMayNotEndInsideACharacterAndStaysOpen) {
  ASSERT_TRUE(Receive(0, "ab\xe2").ok());
  EXPECT_EQ(text_.End().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(text_.open());
  ASSERT_TRUE(Receive(2, "c").ok());
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.pending(), leader_.Encode("abc"));
}

TEST_F(AppendedTextTest, AnEmptyPieceOpensNothing) {
  ASSERT_TRUE(Receive(0, "").ok());
  EXPECT_EQ(text_.state(), AppendedText::State::kNone);
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.state(), AppendedText::State::kNone);
}

TEST_F(AppendedTextTest, OffsetsGoOnFromTextToText) {
  ASSERT_TRUE(Receive(0, "one").ok());
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.state(), AppendedText::State::kEnding);
  EXPECT_FALSE(text_.open());
  text_.pending().clear();
  text_.Ended();
  ASSERT_TRUE(Receive(0, "one").ok());  // sent again: nothing new
  EXPECT_EQ(text_.state(), AppendedText::State::kNone);
  ASSERT_TRUE(Receive(3, "two").ok());
  EXPECT_EQ(text_.state(), AppendedText::State::kOpen);
  ASSERT_TRUE(text_.End().ok());
  EXPECT_EQ(text_.pending(), leader_.Encode("two"));
  EXPECT_EQ(text_.appended_bytes(), 6);
}

}  // namespace
}  // namespace weir
