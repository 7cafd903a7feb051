#include "worker/model/text_stream.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"
#include "tests/worker/model/written_gguf.h"
#include "worker/model/utf8.h"

namespace weir {
namespace {

class TextStreamTest : public testing::Test {
 protected:
  TextStreamTest() {
    GgufWriter writer;
    AddByteLevelTokenizer(writer);
    tokenizer_ = Tokenizer::FromGguf(*OpenWrittenGguf(writer)).value();
  }
  // The token of one byte.
  static int32_t Byte(int byte) { return 3 + byte; }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TextStreamTest, WaitsForWholeCharacters) {
  TextStream stream(*tokenizer_);
  EXPECT_EQ(stream.Append(263), " the");
  EXPECT_EQ(stream.Append(Byte(0xf0)), "");
  EXPECT_EQ(stream.Append(Byte(0x9f)), "");
  EXPECT_EQ(stream.Append(Byte(0x91)), "");
  EXPECT_EQ(stream.Append(Byte(0x8d)), "👍");
  EXPECT_EQ(stream.Append(2), "<|im_end|>");
  EXPECT_EQ(stream.Finish(), "");
}

TEST_F(TextStreamTest, ReplacesWhatCannotBecomeACharacter) {
  TextStream stream(*tokenizer_);
  EXPECT_EQ(stream.Append(Byte(0xff)), "\xef\xbf\xbd");
  EXPECT_EQ(stream.Append(Byte(0xe2)), "");
  EXPECT_EQ(stream.Append(Byte('x')), "\xef\xbf\xbdx");
  EXPECT_EQ(stream.Append(Byte(0xe2)), "");
  EXPECT_EQ(stream.Append(Byte(0x82)), "");
  EXPECT_EQ(stream.Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.Finish(), "");
}

TEST_F(TextStreamTest, PiecesAreValidAndMakeTheWhole) {
  std::mt19937 random(29);
  for (int trial = 0; trial < 1000; ++trial) {
    std::vector<int32_t> tokens(random() % 30);
    for (int32_t& token : tokens) {
      static constexpr uint8_t kTelling[] = {0x80, 0x9f, 0xbf, 0xc3, 0xe2, 0xed, 0xf0, 0xf4};
      token = random() % 3 == 0 ? static_cast<int32_t>(random() % kLeastVocabulary)
                                : Byte(kTelling[random() % 8]);
    }
    TextStream stream(*tokenizer_);
    std::string whole;
    for (const int32_t token : tokens) {
      const std::string piece = stream.Append(token);
      std::string checked;
      ASSERT_EQ(AppendValidUtf8(piece, &checked), 0);
      ASSERT_EQ(checked, piece);
      whole += piece;
    }
    whole += stream.Finish();
    ASSERT_EQ(whole, *tokenizer_->Decode(tokens));
  }
}

}  // namespace
}  // namespace weir
