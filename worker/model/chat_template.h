#ifndef WEIR_WORKER_MODEL_CHAT_TEMPLATE_H_
#define WEIR_WORKER_MODEL_CHAT_TEMPLATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/gguf.h"
#include "worker/model/tokenizer.h"

namespace weir {

struct ChatMessage {
  std::string role;  // such as "system", "user", "assistant"
  std::string content;
};

// A part of a rendered conversation: the name of one special token, or plain text in which nothing
// is special, whatever it looks like. Special tokens come from the model's template only, so that
// no message can pose as the conversation's structure.
struct ChatSegment {
  bool is_special = false;
  std::string text;
};

// How a model wants conversations written. Renders what the Jinja template in the model's file
// renders (with trim_blocks and lstrip_blocks, as Hugging Face does), without running it: it knows
// ChatML, recognises it by structure, and takes the default system message, if there is one, from
// the template. Immutable, thread-safe.
class ChatTemplate {
 public:
  // Reads `tokenizer.chat_template`. NOT_FOUND if the file has none, UNIMPLEMENTED, saying whose
  // template it looks like, if it is not ChatML. Such a model still reads and writes plain text:
  // keep the error for those who ask for a chat.
  static absl::StatusOr<ChatTemplate> FromGguf(const GgufFile& file, const Tokenizer& tokenizer);

  // The messages as the model should read them. `first_in_session`: nothing was said before, so a
  // conversation that does not begin with a system message gets the default one.
  // `add_generation_prompt`: the model shall answer next. Neighbouring plain texts are one segment.
  std::vector<ChatSegment> Render(absl::Span<const ChatMessage> messages, bool first_in_session,
                                  bool add_generation_prompt) const;

  // What ends an answer that the model has generated; the next messages follow it. Begins with the
  // end token, which is to be left out if the session has read it already.
  std::vector<ChatSegment> AnswerEnd() const;

 private:
  ChatTemplate() = default;

  // Fixed texts of the template, cut into segments.
  std::vector<ChatSegment> default_system_;
  std::vector<ChatSegment> before_role_;
  std::vector<ChatSegment> after_role_;
  std::vector<ChatSegment> after_content_;
  std::vector<ChatSegment> generation_prompt_;
};

// The tokens of rendered segments. INVALID_ARGUMENT if a text is not valid UTF-8.
absl::StatusOr<std::vector<int32_t>> EncodeSegments(const Tokenizer& tokenizer,
                                                    absl::Span<const ChatSegment> segments);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_CHAT_TEMPLATE_H_
