#include "worker/engine/stop_matcher.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(StopMatcherTest, HoldsBackWhatMayBecomeAStopText) {
  StopMatcher matcher({"STOP", "TOPIC"});
  EXPECT_EQ(matcher.Append("go S"), "go ");
  EXPECT_EQ(matcher.Append("T"), "");
  EXPECT_EQ(matcher.Append("A"), "STA");
  EXPECT_EQ(matcher.Append("STO"), "");
  EXPECT_EQ(matcher.Append("STO"), "STO");
  EXPECT_EQ(matcher.Append("P and more"), "");
  EXPECT_TRUE(matcher.found());
}

TEST(StopMatcherTest, FinishReturnsWhatWasHeldBack) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Append("yes\n\nUse"), "yes");
  EXPECT_FALSE(matcher.found());
  EXPECT_EQ(matcher.Finish(), "\n\nUse");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, WithoutStopTextsNothingIsHeldBack) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Append("anything"), "anything");
  EXPECT_FALSE(matcher.found());
}

TEST(StopMatcherTest, TheFirstStopTextOfAPieceEndsIt) {
  StopMatcher matcher({"c", "b"});
  EXPECT_EQ(matcher.Append("abc"), "a");
  EXPECT_TRUE(matcher.found());
}

// Against searching the whole text, on texts of two letters, where everything nearly matches.
TEST(StopMatcherTest, HoweverTheTextIsCut) {
  std::mt19937 random(1);
  const auto word = [&](int length) {
    std::string text;
    for (int i = 0; i < length; ++i) text.push_back(random() % 2 == 0 ? 'a' : 'b');
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stop;
    for (int i = random() % 3; i >= 0; --i) stop.push_back(word(1 + random() % 6));
    const std::string text = word(random() % 40);

    // A stop text counts once the piece with its last byte has come; of those that count then, the
    // one that begins first ends the text.
    StopMatcher matcher(stop);
    std::string out;
    size_t read = 0;
    while (read < text.size() && !matcher.found()) {
      const size_t piece = std::min<size_t>(text.size() - read, 1 + random() % 5);
      out += matcher.Append(text.substr(read, piece));
      read += piece;
      size_t first = std::string::npos;
      for (const std::string& s : stop) first = std::min(first, text.substr(0, read).find(s));
      ASSERT_EQ(matcher.found(), first != std::string::npos);
      if (matcher.found()) {
        EXPECT_EQ(out, text.substr(0, first));
      }
      // What is out is certain: no stop text that may still come begins before its end.
      ASSERT_EQ(out, text.substr(0, out.size()));
    }
    if (!matcher.found()) {
      EXPECT_EQ(out + matcher.Finish(), text);
    }
  }
}

}  // namespace
}  // namespace weir
