#include "worker/model/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace weir {
namespace {

using Kind = Utf8Character::Kind;

std::string Encoded(uint32_t code_point) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (code_point < 0x80) return {byte(code_point)};
  const char last = byte(0x80 | (code_point & 63));
  if (code_point < 0x800) return {byte(0xc0 | (code_point >> 6)), last};
  const char third = byte(0x80 | ((code_point >> 6) & 63));
  if (code_point < 0x10000) return {byte(0xe0 | (code_point >> 12)), third, last};
  return {byte(0xf0 | (code_point >> 18)), byte(0x80 | ((code_point >> 12) & 63)), third, last};
}

TEST(Utf8Test, DecodesEveryCodePointAndNoSurrogate) {
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    const std::string text = Encoded(code_point) + "x";
    const Utf8Character character = FirstUtf8Character(text);
    if (code_point >= 0xd800 && code_point < 0xe000) {
      ASSERT_EQ(character.kind, Kind::kInvalid) << code_point;
      continue;
    }
    ASSERT_EQ(character.kind, Kind::kValid) << code_point;
    ASSERT_EQ(character.code_point, code_point);
    ASSERT_EQ(character.length, static_cast<int>(text.size() - 1));
    for (int length = 1; length < character.length; ++length) {
      const Utf8Character part = FirstUtf8Character(absl::string_view(text).substr(0, length));
      ASSERT_EQ(part.kind, Kind::kIncomplete);
      ASSERT_EQ(part.length, length);
    }
  }
}

std::string Repaired(absl::string_view text) {
  std::string out;
  const int left = AppendValidUtf8(text, &out);
  return out + std::string(left, '~');  // what is incomplete
}

// The examples of the Unicode Standard, tables 3-8 to 3-11, among others.
TEST(Utf8Test, ReplacesTheLongestParts) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(Repaired("a\xf1\x80\x80\xe1\x80\xc2"
                     "b\x80"
                     "c\x80\xbf"
                     "d"),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
  EXPECT_EQ(Repaired("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82"
                     "A"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Repaired("\xed\xa0\x80\xed\xbf\xbf\xed\xaf"
                     "A"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Repaired("\xf4\x91\x92\x93\xff"
                     "A\x80\xbf"
                     "B"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(Repaired("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
                     "A"),
            r + r + r + r + "A");
  EXPECT_EQ(Repaired("\xff\xe2\x82"), r + "~~");
  EXPECT_EQ(Repaired("ok\xf0\x9f\x98"), "ok~~~");
  EXPECT_EQ(Repaired("\xe2\x82\xac"), "\xe2\x82\xac");
  EXPECT_EQ(Repaired(""), "");
}

TEST(Utf8Test, RepairedBytesAreValid) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes(random() % 20, '\0');
    for (char& byte : bytes) {
      static constexpr unsigned char kTelling[] = {0x41, 0x80, 0xbf, 0xc3, 0xe2, 0xed, 0xf0, 0xf4};
      byte = static_cast<char>(random() % 2 == 0 ? kTelling[random() % 8] : random());
    }
    std::string text;
    const int left = AppendValidUtf8(bytes, &text);
    EXPECT_LE(left, 3);
    for (absl::string_view rest = text; !rest.empty();) {
      const Utf8Character character = FirstUtf8Character(rest);
      ASSERT_EQ(character.kind, Kind::kValid);
      rest.remove_prefix(character.length);
    }
  }
}

}  // namespace
}  // namespace weir
