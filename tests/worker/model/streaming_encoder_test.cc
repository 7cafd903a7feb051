#include "worker/model/streaming_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"
#include "tests/worker/model/written_gguf.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class StreamingEncoderTest : public testing::Test {
 protected:
  StreamingEncoderTest() {
    GgufWriter writer;
    AddByteLevelTokenizer(writer);
    tokenizer_ = Tokenizer::FromGguf(*OpenWrittenGguf(writer)).value();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(StreamingEncoderTest, AnyCutsGiveTheTokensOfTheWhole) {
  static const std::string kParts[] = {
      "the", " and",     "ing", "'",  "s", "r", "e",          " ",          "  ", "\n",
      "7",   "\xc2\xa0", "é",   "中", "👍", "!", "<|im_end|>", "<|im_start", "<|", "|>"};
  std::mt19937 random(23);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string text;
    for (int parts = static_cast<int>(random() % 12); parts > 0; --parts) {
      text += kParts[random() % std::size(kParts)];
    }
    for (const bool parse_special : {false, true}) {
      const EncodeOptions options = {.add_bos = true, .parse_special = parse_special};
      StreamingEncoder encoder(*tokenizer_, options);
      std::vector<int32_t> tokens;
      const size_t longest = 1 + random() % 8;
      for (size_t at = 0; at < text.size();) {
        const size_t length = random() % (longest + 1);
        ASSERT_TRUE(encoder.Append(absl::string_view(text).substr(at, length), tokens).ok());
        at += length;
      }
      ASSERT_TRUE(encoder.Finish(tokens).ok());
      ASSERT_EQ(tokens, *tokenizer_->Encode(text, options)) << text;
    }
  }
}

TEST_F(StreamingEncoderTest, EmitsWhatIsCertainAtOnce) {
  StreamingEncoder encoder(*tokenizer_, {.parse_special = true});
  std::vector<int32_t> tokens;
  ASSERT_TRUE(encoder.Append("7 the", tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(3 + '7'));  // " the" may go on
  ASSERT_TRUE(encoder.Append(" ", tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(3 + '7', 263));
  ASSERT_TRUE(encoder.Append("<|im_end|", tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(3 + '7', 263));
  ASSERT_TRUE(encoder.Append(">", tokens).ok());
  EXPECT_THAT(tokens, ElementsAre(3 + '7', 263, 3 + ' ', 2));
  tokens.clear();
  ASSERT_TRUE(encoder.Finish(tokens).ok());
  EXPECT_THAT(tokens, IsEmpty());
}

TEST_F(StreamingEncoderTest, ErrorsNameTheOffsetInTheWholeTextAndStay) {
  StreamingEncoder encoder(*tokenizer_, {});
  std::vector<int32_t> tokens;
  ASSERT_TRUE(encoder.Append("one two \xe2\x82", tokens).ok());
  const absl::Status status = encoder.Append("x", tokens);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte offset 8"));
  EXPECT_EQ(encoder.Append("fine", tokens), status);
  EXPECT_EQ(encoder.Finish(tokens), status);

  StreamingEncoder cut(*tokenizer_, {});
  ASSERT_TRUE(cut.Append("one \xf0\x9f", tokens).ok());
  EXPECT_THAT(std::string(cut.Finish(tokens).message()), HasSubstr("byte offset 4"));
}

TEST_F(StreamingEncoderTest, RefusesPiecesWithoutEnd) {
  StreamingEncoder encoder(*tokenizer_, {});
  std::vector<int32_t> tokens;
  ASSERT_TRUE(encoder.Append("one ", tokens).ok());
  const std::string part(1 << 20, 'x');
  absl::Status status;
  size_t parts = 0;
  while (status.ok() && parts < 20) {
    status = encoder.Append(part, tokens);
    ++parts;
  }
  EXPECT_EQ(parts, StreamingEncoder::kMaxPieceBytes / part.size());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte offset 3"));
}

// One character at a time, held back as one long piece: quadratic time would take minutes.
TEST_F(StreamingEncoderTest, LongPiecesInSmallParts) {
  StreamingEncoder encoder(*tokenizer_, {.parse_special = true});
  std::vector<int32_t> tokens;
  for (int i = 0; i < 1000000; ++i) ASSERT_TRUE(encoder.Append("<", tokens).ok());
  EXPECT_THAT(tokens, IsEmpty());
  ASSERT_TRUE(encoder.Finish(tokens).ok());
  EXPECT_EQ(tokens.size(), 1000000u);
}

}  // namespace
}  // namespace weir
