#ifndef WEIR_WORKER_MODEL_TEXT_STREAM_H_
#define WEIR_WORKER_MODEL_TEXT_STREAM_H_

#include <cstdint>
#include <string>

#include "worker/model/tokenizer.h"

namespace weir {

// Turns tokens into text as they come, never half a character: the bytes of a character that is
// not complete wait for the next token. All that is returned is valid UTF-8; bytes that cannot
// become a character turn into U+FFFD. The pieces together are what Tokenizer::Decode returns for
// all tokens. Not thread-safe; the tokenizer must outlive it.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Takes the next token, which is in the vocabulary; returns the text that is now complete,
  // perhaps none.
  std::string Append(int32_t token);

  // There are no more tokens: returns U+FFFD if an incomplete character is left, else nothing.
  // The stream is as new then.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::string incomplete_;  // at most 3 bytes
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_TEXT_STREAM_H_
