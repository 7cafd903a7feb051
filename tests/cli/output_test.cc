#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "cli/json_output.h"
#include "cli/memory_picture.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

TEST(JsonOutputTest, TokenHasNullWhereNothingIsBeforeIt) {
  v1::TokenLogprob token;
  token.set_token(7);
  token.set_token_bytes("a\"b");
  EXPECT_EQ(ToJson(token).dump(), R"({"token":7,"text":"a\"b","logprob":null})");
  token.set_logprob(-0.5);
  EXPECT_EQ(ToJson(token)["logprob"], -0.5);
}

TEST(JsonOutputTest, HalfACharacterIsAReplacement) {
  v1::TokenLogprob token;
  token.set_token_bytes("\xe2\x82");
  EXPECT_EQ(Json::parse(ToJson(token).dump())["text"], "\xef\xbf\xbd");
}

TEST(JsonOutputTest, LastMessageTellsWhyItEnded) {
  v1::GenerateResponse response;
  response.set_text("and");
  EXPECT_EQ(ToJson(response).dump(), R"({"text":"and"})");
  response.set_finish_reason(v1::FINISH_REASON_STOP_TEXT);
  response.set_tokens_generated(3);
  EXPECT_EQ(ToJson(response).dump(),
            R"({"text":"and","finish_reason":"stop_text","tokens_generated":3})");
}

TEST(JsonOutputTest, TokensHaveLogprobsWhereAskedFor) {
  v1::GenerateResponse response;
  v1::GeneratedToken& token = *response.add_tokens();
  token.mutable_token()->set_token(5);
  token.mutable_token()->set_token_bytes("x");
  EXPECT_FALSE(ToJson(response)["tokens"][0].contains("logprob"));
  token.mutable_token()->set_logprob(-1);
  token.add_top()->set_token(5);
  const Json json = ToJson(response)["tokens"][0];
  EXPECT_EQ(json["logprob"], -1);
  EXPECT_EQ(json["top"].size(), 1u);
}

TEST(JsonOutputTest, SessionIsWhole) {
  v1::Session session;
  session.set_id("abc");
  session.set_tokens_seen(int64_t{1} << 40);
  session.mutable_cascade()->set_head_reduction(v1::HEAD_REDUCTION_MEAN);
  const Json json = ToJson(session);
  EXPECT_EQ(json["id"], "abc");
  EXPECT_EQ(json["tokens_seen"], int64_t{1} << 40);
  EXPECT_EQ(json["cascade"]["head_reduction"], "mean");
  EXPECT_EQ(json["running"], false);
}

// A layer of `heads` heads that keep every token below `sinks` and from `recent` to `seen`.
v1::InspectSessionResponse Layer(int index, int heads, int sinks, int recent, int seen) {
  v1::InspectSessionResponse layer;
  layer.set_layer(index);
  for (int h = 0; h < heads; ++h) {
    v1::HeadMemory& head = *layer.add_heads();
    head.set_kv_head(h);
    for (int token = 0; token < seen; ++token) {
      if (token >= sinks && token < recent) continue;
      head.add_tokens(token);
      head.add_scores(1);
      head.add_sub_caches(token < sinks ? -1 : 0);
    }
  }
  return layer;
}

TEST(MemoryPictureTest, TerminalShowsWhatIsKept) {
  // 80 tokens in 40 columns: 4 sinks are 2 columns, the last 20 tokens 10.
  const std::string text = MemoryText({Layer(0, 2, 4, 60, 80), Layer(1, 2, 4, 60, 80)}, 80, 52);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  ASSERT_EQ(lines.size(), 4u);  // Two layers, the axis, nothing.
  std::string bar = "|";
  for (int i = 0; i < 40; ++i) bar += i < 2 || i >= 30 ? "█" : " ";
  EXPECT_EQ(lines[0], "layer   0 " + bar + "|");
  EXPECT_EQ(lines[1], "layer   1 " + bar + "|");
  EXPECT_EQ(lines[2].size(), 52u);
  EXPECT_THAT(lines[2], HasSubstr("token 0"));
  EXPECT_EQ(lines[2].substr(50), "79");
}

TEST(MemoryPictureTest, OneLayerIsShownHeadByHead) {
  const std::string text = MemoryText({Layer(3, 3, 4, 60, 80)}, 80, 52);
  for (const char* head : {"head   0  |", "head   1  |", "head   2  |"}) {
    EXPECT_THAT(text, HasSubstr(head));
  }
}

TEST(MemoryPictureTest, SmallestAndEmptySessionsHaveAPictureToo) {
  EXPECT_EQ(MemoryText({}, 0, 80), "The session has read nothing yet.\n");
  EXPECT_THAT(MemoryText({Layer(0, 1, 1, 1, 1)}, 1, 80), HasSubstr("token 0"));
  EXPECT_THAT(MemoryText({Layer(0, 1, 1, 1, 30)}, 30, 5), HasSubstr("head   0"));
}

// Whether every element is closed, in order, and attributes are quoted; enough of XML for our SVG.
bool IsWellFormed(const std::string& xml) {
  std::vector<std::string> open;
  bool had_root = false;
  for (size_t i = 0; i < xml.size();) {
    if (xml[i] == '>' || xml[i] == '&') return false;
    if (xml[i] != '<') {
      ++i;
      continue;
    }
    const size_t end = xml.find('>', i);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag.find('<') != std::string::npos) return false;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return false;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != tag) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      if (open.empty() && had_root) return false;
      had_root = true;
      open.push_back(name);
    }
    i = end + 1;
  }
  return had_root && open.empty();
}

TEST(MemoryPictureTest, SvgIsWellFormedAndHasATickForEveryToken) {
  v1::Session session;
  session.set_id("0123456789abcdef0123456789abcdef");
  session.set_tokens_seen(80);
  session.set_tokens_cached(24);
  session.mutable_cascade()->set_sub_caches(2);
  const std::string svg = MemorySvg({Layer(0, 2, 4, 60, 80), Layer(1, 2, 4, 60, 80)}, session);
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_THAT(svg, HasSubstr("24 of 80 tokens"));
  EXPECT_THAT(svg, HasSubstr("sub-cache 1"));
  EXPECT_THAT(svg, HasSubstr("layer 1"));
  EXPECT_EQ(std::count(svg.begin(), svg.end(), 'M'), 2 * 2 * 24);
  EXPECT_TRUE(IsWellFormed(MemorySvg({}, v1::Session())));
}

}  // namespace
}  // namespace weir
