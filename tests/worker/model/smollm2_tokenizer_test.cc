// The tokenizer and chat template of a real model against golden values of the reference tokenizer:
// see tests/testing/golden/make_tokenizer_golden.py.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/testing/runfiles.h"
#include "worker/model/chat_template.h"
#include "worker/model/streaming_encoder.h"
#include "worker/model/text_stream.h"
#include "worker/model/tokenizer.h"

namespace weir {
namespace {

using Tokens = std::vector<int32_t>;

class SmolLm2TokenizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    file_ = GgufFile::Open(SmolLm2Path()).value().release();
    tokenizer_ = Tokenizer::FromGguf(*file_).value().release();
    std::ifstream golden(Runfile("weir/tests/testing/golden/smollm2_tokenizer.json"));
    golden_ = new nlohmann::json(nlohmann::json::parse(golden));
  }
  static void TearDownTestSuite() {
    delete golden_;
    delete tokenizer_;
    delete file_;
  }

  static const GgufFile* file_;
  static const Tokenizer* tokenizer_;
  static const nlohmann::json* golden_;
};

const GgufFile* SmolLm2TokenizerTest::file_ = nullptr;
const Tokenizer* SmolLm2TokenizerTest::tokenizer_ = nullptr;
const nlohmann::json* SmolLm2TokenizerTest::golden_ = nullptr;

TEST_F(SmolLm2TokenizerTest, EncodesAsTheReference) {
  int texts = 0;
  for (const nlohmann::json& entry : golden_->at("encode")) {
    const std::string text = entry.at("text");
    const Tokens plain = entry.at("tokens").get<Tokens>();
    const Tokens special = entry.value("special", plain);
    EXPECT_EQ(tokenizer_->Encode(text).value(), plain) << testing::PrintToString(text);
    EXPECT_EQ(tokenizer_->Encode(text, {.parse_special = true}).value(), special)
        << testing::PrintToString(text);
    ++texts;
  }
  EXPECT_GT(texts, 300);
}

TEST_F(SmolLm2TokenizerTest, StreamsAsTheReference) {
  for (const nlohmann::json& entry : golden_->at("encode")) {
    const std::string text = entry.at("text");
    for (const size_t part : {1, 3, 7}) {
      StreamingEncoder encoder(*tokenizer_, {});
      Tokens tokens;
      for (size_t at = 0; at < text.size(); at += part) {
        ASSERT_TRUE(encoder.Append(absl::string_view(text).substr(at, part), tokens).ok());
      }
      ASSERT_TRUE(encoder.Finish(tokens).ok());
      EXPECT_EQ(tokens, entry.at("tokens").get<Tokens>()) << testing::PrintToString(text);
    }
  }
}

TEST_F(SmolLm2TokenizerTest, DecodesAsTheReference) {
  for (const nlohmann::json& entry : golden_->at("decode")) {
    const Tokens tokens = entry.at("tokens").get<Tokens>();
    const std::string text = entry.at("text");
    EXPECT_EQ(tokenizer_->Decode(tokens).value(), text) << testing::PrintToString(tokens);
    TextStream stream(*tokenizer_);
    std::string streamed;
    for (const int32_t token : tokens) streamed += stream.Append(token);
    EXPECT_EQ(streamed + stream.Finish(), text) << testing::PrintToString(tokens);
  }
}

TEST_F(SmolLm2TokenizerTest, RendersConversationsAsTheReference) {
  const auto chat = ChatTemplate::FromGguf(*file_, *tokenizer_);
  ASSERT_TRUE(chat.ok()) << chat.status();
  for (const nlohmann::json& entry : golden_->at("chat")) {
    std::vector<ChatMessage> messages;
    for (const nlohmann::json& message : entry.at("messages")) {
      messages.push_back({message.at("role"), message.at("content")});
    }
    const size_t earlier = entry.at("earlier");
    const std::vector<ChatSegment> segments =
        chat->Render(absl::MakeConstSpan(messages).subspan(earlier), earlier == 0,
                     entry.at("add_generation_prompt"));
    std::string rendered;
    for (const ChatSegment& segment : segments) rendered += segment.text;
    EXPECT_EQ(rendered, entry.at("rendered").get<std::string>());
    EXPECT_EQ(EncodeSegments(*tokenizer_, segments).value(), entry.at("tokens").get<Tokens>());
  }
}

TEST_F(SmolLm2TokenizerTest, KnowsItsNamedTokens) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), 49152);
  EXPECT_EQ(tokenizer_->bos(), 1);
  EXPECT_EQ(tokenizer_->eos(), 2);
  EXPECT_FALSE(tokenizer_->adds_bos());
  EXPECT_TRUE(tokenizer_->IsEndToken(2));
  EXPECT_TRUE(tokenizer_->IsEndToken(*tokenizer_->FindSpecial("<|endoftext|>")));
  EXPECT_FALSE(tokenizer_->IsEndToken(1));
}

}  // namespace
}  // namespace weir
