#include "worker/model/chat_template.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/model/jinja_outline.h"
#include "worker/model/special_token_matcher.h"

namespace weir {
namespace {

using Kind = JinjaStep::Kind;

constexpr absl::string_view kBeforeRole = "<|im_start|>";
constexpr absl::string_view kAfterRole = "\n";
constexpr absl::string_view kAfterContent = "<|im_end|>\n";
constexpr absl::string_view kGenerationPrompt = "<|im_start|>assistant\n";

// The steps of a ChatML template, with a default system message unless null.
std::vector<JinjaStep> ChatMlOutline(const std::string* default_system) {
  std::vector<JinjaStep> steps = {{Kind::kStatement, "for message in messages"}};
  if (default_system != nullptr) {
    steps.push_back({Kind::kStatement, "if loop.first and messages[0].role != \"system\""});
    steps.push_back({Kind::kLiteral, *default_system});
    steps.push_back({Kind::kStatement, "endif"});
  }
  for (JinjaStep step : {JinjaStep{Kind::kLiteral, std::string(kBeforeRole)},
                         JinjaStep{Kind::kExpression, "message.role"},
                         JinjaStep{Kind::kLiteral, std::string(kAfterRole)},
                         JinjaStep{Kind::kExpression, "message.content"},
                         JinjaStep{Kind::kLiteral, std::string(kAfterContent)},
                         JinjaStep{Kind::kStatement, "endfor"},
                         JinjaStep{Kind::kStatement, "if add_generation_prompt"},
                         JinjaStep{Kind::kLiteral, std::string(kGenerationPrompt)},
                         JinjaStep{Kind::kStatement, "endif"}}) {
    steps.push_back(std::move(step));
  }
  return steps;
}

// Whose template one that is not ChatML looks like.
absl::string_view LooksLike(absl::string_view source) {
  static constexpr std::pair<absl::string_view, absl::string_view> kMarks[] = {
      {"<|start_header_id|>", "Llama 3's"}, {"[INST]", "Llama 2's or Mistral's"},
      {"<start_of_turn>", "Gemma's"},       {"<|im_start|>", "a variant of ChatML"},
      {"<|user|>", "Zephyr's or Phi's"},
  };
  for (const auto& [mark, owner] : kMarks) {
    if (absl::StrContains(source, mark)) return owner;
  }
  return "none that Weir knows";
}

void AppendSpecial(absl::string_view name, std::vector<ChatSegment>& segments) {
  segments.push_back({true, std::string(name)});
}

void AppendText(absl::string_view text, std::vector<ChatSegment>& segments) {
  if (text.empty()) return;
  if (!segments.empty() && !segments.back().is_special) {
    absl::StrAppend(&segments.back().text, text);
  } else {
    segments.push_back({false, std::string(text)});
  }
}

void AppendSegments(const std::vector<ChatSegment>& more, std::vector<ChatSegment>& segments) {
  for (const ChatSegment& segment : more) {
    if (segment.is_special) {
      AppendSpecial(segment.text, segments);
    } else {
      AppendText(segment.text, segments);
    }
  }
}

// Cuts a text of the template at the names of special tokens.
std::vector<ChatSegment> CutAtSpecialTokens(const Tokenizer& tokenizer, absl::string_view text) {
  std::vector<ChatSegment> segments;
  size_t plain = 0;  // where plain text began
  for (size_t i = 0; i < text.size();) {
    const size_t length = tokenizer.special_tokens().LongestAt(text.substr(i)).length;
    if (length == 0) {
      ++i;
      continue;
    }
    AppendText(text.substr(plain, i - plain), segments);
    AppendSpecial(text.substr(i, length), segments);
    i += length;
    plain = i;
  }
  AppendText(text.substr(plain), segments);
  return segments;
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::FromGguf(const GgufFile& file,
                                                    const Tokenizer& tokenizer) {
  const absl::StatusOr<absl::string_view> source = file.GetString("tokenizer.chat_template");
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::vector<JinjaStep>> outline = ReadJinjaOutline(*source);
  ChatTemplate chat_template;
  if (outline.ok() && *outline == ChatMlOutline(nullptr)) {
    // No default system message.
  } else if (outline.ok() && outline->size() > 2 &&
             *outline == ChatMlOutline(&(*outline)[2].text)) {
    chat_template.default_system_ = CutAtSpecialTokens(tokenizer, (*outline)[2].text);
  } else {
    return absl::UnimplementedError(absl::StrCat(
        file.path(), ": the model's chat template is not ChatML, the one that Weir renders (it ",
        "looks like ", LooksLike(*source), "); send plain text instead of messages"));
  }
  chat_template.before_role_ = CutAtSpecialTokens(tokenizer, kBeforeRole);
  chat_template.after_role_ = CutAtSpecialTokens(tokenizer, kAfterRole);
  chat_template.after_content_ = CutAtSpecialTokens(tokenizer, kAfterContent);
  chat_template.generation_prompt_ = CutAtSpecialTokens(tokenizer, kGenerationPrompt);
  return chat_template;
}

std::vector<ChatSegment> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                              bool first_in_session,
                                              bool add_generation_prompt) const {
  std::vector<ChatSegment> segments;
  if (first_in_session && !messages.empty() && messages[0].role != "system") {
    AppendSegments(default_system_, segments);
  }
  for (const ChatMessage& message : messages) {
    AppendSegments(before_role_, segments);
    AppendText(message.role, segments);
    AppendSegments(after_role_, segments);
    AppendText(message.content, segments);
    AppendSegments(after_content_, segments);
  }
  if (add_generation_prompt) AppendSegments(generation_prompt_, segments);
  return segments;
}

std::vector<ChatSegment> ChatTemplate::AnswerEnd() const { return after_content_; }

absl::StatusOr<std::vector<int32_t>> EncodeSegments(const Tokenizer& tokenizer,
                                                    absl::Span<const ChatSegment> segments) {
  std::vector<int32_t> tokens;
  for (const ChatSegment& segment : segments) {
    const absl::StatusOr<std::vector<int32_t>> encoded =
        tokenizer.Encode(segment.text, {.parse_special = segment.is_special});
    if (!encoded.ok()) return encoded.status();
    tokens.insert(tokens.end(), encoded->begin(), encoded->end());
  }
  return tokens;
}

}  // namespace weir
