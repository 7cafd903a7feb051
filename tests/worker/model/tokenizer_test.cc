#include "worker/model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"
#include "tests/worker/model/written_gguf.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const GgufWriter& writer) {
  return Tokenizer::FromGguf(*OpenWrittenGguf(writer));
}

std::string Message(const GgufWriter& writer) {
  const auto tokenizer = Load(writer);
  return tokenizer.ok() ? "loaded" : std::string(tokenizer.status().message());
}

std::unique_ptr<Tokenizer> SmallTokenizer() {
  GgufWriter writer;
  AddByteLevelTokenizer(writer, kLeastVocabulary + 2);
  auto tokenizer = Load(writer);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(TokenizerTest, EncodesAndDecodes) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_EQ(tokenizer->vocabulary_size(), kLeastVocabulary + 2);
  EXPECT_THAT(*tokenizer->Encode(" the thing and\xc3\xa9"),
              ElementsAre(263, 259, 3 + 'h', 265, 266, 3 + 0xc3, 3 + 0xa9));
  EXPECT_THAT(*tokenizer->Encode(""), ElementsAre());
  EXPECT_EQ(*tokenizer->Decode({263, 259, 3 + 'h', 265, 266, 3 + 0xc3, 3 + 0xa9}),
            " the thing and\xc3\xa9");
  EXPECT_EQ(*tokenizer->Decode({2, 3 + 0xc3, 3 + 'x', 3 + 0xe2, 3 + 0x82}),
            "<|im_end|>\xef\xbf\xbdx\xef\xbf\xbd");
  EXPECT_EQ(tokenizer->TokenBytes(263), " the");
  EXPECT_EQ(tokenizer->TokenBytes(3), absl::string_view("\0", 1));
  EXPECT_EQ(tokenizer->TokenBytes(3 + 0xad), "\xad");
}

TEST(TokenizerTest, EveryByteHasItsToken) {
  const auto tokenizer = SmallTokenizer();
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer->TokenBytes(3 + byte), std::string(1, static_cast<char>(byte)));
    if (byte < 128) {
      EXPECT_THAT(*tokenizer->Encode(std::string(1, static_cast<char>(byte))),
                  ElementsAre(3 + byte));
    }
  }
}

TEST(TokenizerTest, SpecialTokensOnlyWhenAskedFor) {
  const auto tokenizer = SmallTokenizer();
  const std::string text = "a<|im_end|>b";
  EXPECT_THAT(*tokenizer->Encode(text, {.parse_special = true}), ElementsAre(3 + 'a', 2, 3 + 'b'));
  const std::vector<int32_t> plain = *tokenizer->Encode(text);
  EXPECT_GT(plain.size(), 3u);
  for (const int32_t token : plain) EXPECT_FALSE(tokenizer->IsSpecial(token));
  EXPECT_EQ(*tokenizer->Decode(plain), text);

  EXPECT_THAT(*tokenizer->Encode("a", {.add_bos = true}), ElementsAre(1, 3 + 'a'));
  EXPECT_THAT(*tokenizer->Encode("", {.add_bos = true}), ElementsAre(1));
}

TEST(TokenizerTest, KnowsTheNamedTokens) {
  const auto tokenizer = SmallTokenizer();
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_TRUE(tokenizer->IsEndToken(0));
  EXPECT_FALSE(tokenizer->IsEndToken(1));
  EXPECT_TRUE(tokenizer->IsEndToken(2));
  EXPECT_FALSE(tokenizer->IsEndToken(3));
  EXPECT_EQ(tokenizer->FindSpecial("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer->FindSpecial("<|im_start|> "), std::nullopt);
  EXPECT_EQ(tokenizer->FindSpecial("the"), std::nullopt);
  EXPECT_EQ(tokenizer->FindSpecial(""), std::nullopt);
}

TEST(TokenizerTest, RefusesWhatIsNoText) {
  const auto tokenizer = SmallTokenizer();
  const absl::Status invalid = tokenizer->Encode("abc\xff").status();
  EXPECT_EQ(invalid.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(invalid.message()), HasSubstr("byte offset 3"));
  EXPECT_THAT(std::string(tokenizer->Encode("ab\xe2\x82").status().message()),
              HasSubstr("byte offset 2"));
  EXPECT_THAT(std::string(tokenizer->Decode({5, -1}).status().message()),
              AllOf(HasSubstr("token -1"), HasSubstr("index 1")));
  EXPECT_THAT(std::string(tokenizer->Decode({kLeastVocabulary + 2}).status().message()),
              HasSubstr("vocabulary"));
}

// A tokenizer of three tokens, to be told lies about.
struct Parts {
  std::string model = "gpt2";
  std::string pre = "smollm";
  std::vector<std::string> tokens = {"a", "b", "ab"};
  std::vector<int32_t> types = {1, 1, 1};
  std::vector<std::string> merges = {"a b"};
  uint32_t eos = 0;
};

GgufWriter Written(const Parts& parts) {
  GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", parts.model);
  writer.AddString("tokenizer.ggml.pre", parts.pre);
  writer.AddStringArray("tokenizer.ggml.tokens", parts.tokens);
  writer.AddInt32Array("tokenizer.ggml.token_type", parts.types);
  writer.AddStringArray("tokenizer.ggml.merges", parts.merges);
  writer.AddUint32("tokenizer.ggml.eos_token_id", parts.eos);
  return writer;
}

TEST(TokenizerTest, RefusesOtherKindsByName) {
  EXPECT_EQ(Message(Written({})), "loaded");
  EXPECT_THAT(Message(Written({.model = "llama"})), HasSubstr("'llama'"));
  EXPECT_THAT(Message(Written({.pre = "qwen2"})), HasSubstr("'qwen2'"));
  EXPECT_EQ(Load(Written({.pre = "qwen2"})).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(GgufWriter()), HasSubstr("tokenizer.ggml.model"));
}

TEST(TokenizerTest, RefusesContradictions) {
  EXPECT_THAT(Message(Written({.tokens = {}, .types = {}})), HasSubstr("0 tokens"));
  EXPECT_THAT(Message(Written({.tokens = {"a", "b", ""}})), HasSubstr("token 2"));
  EXPECT_THAT(Message(Written({.tokens = {"a", "b", "a"}})), HasSubstr("twice"));
  EXPECT_THAT(Message(Written({.types = {1, 1}})), HasSubstr("2 entries for 3 tokens"));
  EXPECT_THAT(Message(Written({.merges = {"ab"}})), HasSubstr("merge 0, 'ab'"));
  EXPECT_THAT(Message(Written({.merges = {"a c"}})), HasSubstr("lacks"));
  EXPECT_THAT(Message(Written({.merges = {"b a"}})), HasSubstr("lacks"));
  EXPECT_THAT(Message(Written({.merges = {" ab"}})), HasSubstr("lacks"));
  EXPECT_THAT(Message(Written({.merges = {"a b", "a b"}})), HasSubstr("merge 1"));
  EXPECT_THAT(Message(Written({.eos = 3})), HasSubstr("eos_token_id is 3"));
}

TEST(TokenizerTest, AddsBosOnlyIfThereIsOne) {
  GgufWriter without = Written({});
  without.AddBool("tokenizer.ggml.add_bos_token", true);
  EXPECT_THAT(Message(without), HasSubstr("bos_token_id is missing"));
  GgufWriter with = Written({});
  with.AddBool("tokenizer.ggml.add_bos_token", true);
  with.AddUint32("tokenizer.ggml.bos_token_id", 1);
  EXPECT_TRUE((*Load(with))->adds_bos());
}

// Whatever is done to a file, its tokenizer is refused with a message or works.
TEST(TokenizerTest, SurvivesCorruption) {
  GgufWriter writer;
  AddByteLevelTokenizer(writer);
  const std::string bytes = writer.Serialize();
  const std::string path = absl::StrCat(testing::TempDir(), "/corrupt_", getpid(), ".gguf");
  std::mt19937 random(31);
  int loaded = 0;
  int refused = 0;
  for (int trial = 0; trial < 5000; ++trial) {
    std::string corrupt = bytes;
    // Past the header, whose lies are tried elsewhere.
    for (int i = 0; i < 3; ++i)
      corrupt[100 + random() % (corrupt.size() - 100)] ^= 1 << random() % 8;
    unlink(path.c_str());
    WriteFileOrDie(path, corrupt);
    const auto file = GgufFile::Open(path);
    if (!file.ok()) continue;
    const auto tokenizer = Tokenizer::FromGguf(**file);
    if (!tokenizer.ok()) {
      ++refused;
      EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(path));
      continue;
    }
    ++loaded;
    const auto tokens =
        (*tokenizer)->Encode(" the thing and 7 <|im_end|>", {.parse_special = true});
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    EXPECT_TRUE((*tokenizer)->Decode(*tokens).ok());
  }
  EXPECT_GT(loaded, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace weir
