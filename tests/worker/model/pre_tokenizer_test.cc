#include "worker/model/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "worker/model/utf8.h"

namespace weir {
namespace {

using testing::ElementsAre;

std::vector<std::string> Pieces(const std::string& text) {
  PreTokenizer pre_tokenizer;
  std::vector<uint64_t> ends;
  uint64_t offset = 0;
  while (offset < text.size()) {
    const Utf8Character character = FirstUtf8Character(absl::string_view(text).substr(offset));
    pre_tokenizer.Push(character.code_point, offset, character.length, ends);
    offset += character.length;
  }
  pre_tokenizer.Finish(offset, ends);
  std::vector<std::string> pieces;
  uint64_t begin = 0;
  for (const uint64_t end : ends) {
    pieces.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return pieces;
}

TEST(PreTokenizerTest, CutsWordsNumbersAndSpaces) {
  EXPECT_THAT(Pieces(""), ElementsAre());
  EXPECT_THAT(Pieces("Hello, big world!"), ElementsAre("Hello", ",", " big", " world", "!"));
  EXPECT_THAT(Pieces("a  b   c"), ElementsAre("a", " ", " b", "  ", " c"));
  EXPECT_THAT(Pieces("in 1984"), ElementsAre("in", " ", "1", "9", "8", "4"));
  EXPECT_THAT(Pieces("x   7"), ElementsAre("x", "   ", "7"));
  EXPECT_THAT(Pieces("a\n\nb \n c\t"), ElementsAre("a", "\n", "\n", "b", " \n", " c", "\t"));
  EXPECT_THAT(Pieces("\xc2\xa0 x"), ElementsAre("\xc2\xa0", " x"));
  EXPECT_THAT(Pieces(" \xc2\xa0x"), ElementsAre(" ", "\xc2\xa0", "x"));
  EXPECT_THAT(Pieces("caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87"),
              ElementsAre("caf\xc3\xa9", " \xe4\xb8\xad\xe6\x96\x87"));
}

TEST(PreTokenizerTest, CutsContractions) {
  EXPECT_THAT(Pieces("it's"), ElementsAre("it", "'s"));
  EXPECT_THAT(Pieces("we'll've"), ElementsAre("we", "'ll", "'ve"));
  EXPECT_THAT(Pieces("'re'r'"), ElementsAre("'re", "'", "r", "'"));
  EXPECT_THAT(Pieces("'rx 'l 'v5"), ElementsAre("'", "rx", " '", "l", " '", "v", "5"));
  EXPECT_THAT(Pieces("'S"), ElementsAre("'", "S"));
  EXPECT_THAT(Pieces("''s"), ElementsAre("''", "s"));
  EXPECT_THAT(Pieces("'r5"), ElementsAre("'", "r", "5"));
  EXPECT_THAT(Pieces("'l"), ElementsAre("'", "l"));
}

// The expression, tried alternative by alternative on classes of ASCII characters: an independent
// and slow reading of it.
class NaiveExpression {
 public:
  static std::vector<std::string> Pieces(const std::string& text) {
    std::vector<std::string> pieces;
    std::string run;
    for (const char c : text) {
      if (IsDigit(c)) {
        MatchAll(run, pieces);
        run.clear();
        pieces.push_back(std::string(1, c));
      } else {
        run.push_back(c);
      }
    }
    MatchAll(run, pieces);
    return pieces;
  }

 private:
  static bool IsDigit(char c) { return c >= '0' && c <= '9'; }
  static bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  static bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t'; }
  static bool IsOther(char c) { return !IsSpace(c) && !IsLetter(c) && !IsDigit(c); }

  template <typename Is>
  static size_t Run(const std::string& text, size_t from, Is is) {
    size_t end = from;
    while (end < text.size() && is(text[end])) ++end;
    return end - from;
  }

  static size_t MatchLength(const std::string& text, size_t at) {
    for (const char* contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.compare(at, std::string(contraction).size(), contraction) == 0) {
        return std::string(contraction).size();
      }
    }
    const size_t space = text[at] == ' ' ? 1 : 0;
    if (const size_t run = Run(text, at + space, IsLetter); run > 0) return space + run;
    if (const size_t run = Run(text, at + space, IsOther); run > 0) return space + run;
    const size_t spaces = Run(text, at, IsSpace);
    if (at + spaces == text.size()) return spaces;
    return spaces > 1 ? spaces - 1 : 1;
  }

  static void MatchAll(const std::string& text, std::vector<std::string>& pieces) {
    for (size_t at = 0; at < text.size();) {
      const size_t length = MatchLength(text, at);
      pieces.push_back(text.substr(at, length));
      at += length;
    }
  }
};

TEST(PreTokenizerTest, EqualsTheExpressionOnRandomText) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 20000; ++trial) {
    static constexpr char kCharacters[] = "''''strvemldlS  \n\tab!-07";
    std::string text(random() % 16, ' ');
    for (char& c : text) c = kCharacters[random() % (sizeof(kCharacters) - 1)];
    ASSERT_EQ(Pieces(text), NaiveExpression::Pieces(text)) << testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace weir
