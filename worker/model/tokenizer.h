#ifndef WEIR_WORKER_MODEL_TOKENIZER_H_
#define WEIR_WORKER_MODEL_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/byte_pair_encoding.h"
#include "worker/model/gguf.h"
#include "worker/model/special_token_matcher.h"

namespace weir {

struct EncodeOptions {
  // Begin with the beginning-of-text token; `Tokenizer::adds_bos()` is what the model wants at the
  // beginning of a text. Without such a token nothing is added.
  bool add_bos = false;
  // Turn the texts of special tokens, such as <|im_end|>, into these tokens. Off, they are ordinary
  // text: what a user writes can then not pose as the conversation's structure.
  bool parse_special = false;
};

// The vocabulary of a model and the way from text to tokens and back: byte-level byte pair encoding
// with the file's own merges, token for token as Hugging Face tokenizers does it. A vocabulary may
// lack a few bytes that do not occur in sane text (SmolLM2's lacks 0x04 and others); they are left
// out of the encoding, there as here. Immutable, thread-safe, keeps nothing of the file.
class Tokenizer {
 public:
  // Reads `tokenizer.ggml.*`. UNIMPLEMENTED, by name, for a tokenizer or pre-tokenizer that is not
  // supported (`gpt2` with `smollm` is); INVALID_ARGUMENT for a vocabulary that contradicts itself.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const GgufFile& file);

  int32_t vocabulary_size() const { return static_cast<int32_t>(tokens_.size()); }

  // The tokens of a text. INVALID_ARGUMENT, naming the byte offset, if it is not valid UTF-8.
  // A text that arrives in parts: see StreamingEncoder.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options = {}) const;

  // The text of the tokens, special ones included; bytes that are not UTF-8 become U+FFFD.
  // INVALID_ARGUMENT for a number that is no token. Token by token: see TextStream.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> tokens) const;

  // Whether the number is a token of the vocabulary, as the functions below require.
  bool IsToken(int64_t token) const { return token >= 0 && token < vocabulary_size(); }
  // The bytes that a token stands for: perhaps a part of a character. Of a special token, its name.
  absl::string_view TokenBytes(int32_t token) const { return tokens_[token].bytes; }
  // Control tokens and those that the model's makers added by hand.
  bool IsSpecial(int32_t token) const { return tokens_[token].special; }
  // The special token of this name.
  std::optional<int32_t> FindSpecial(absl::string_view name) const;

  const SpecialTokenMatcher& special_tokens() const { return special_tokens_; }

  // Beginning and end of text, if the file names them.
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  bool adds_bos() const { return adds_bos_; }
  // Whether a generation is over when it yields this token: end of text, of a turn, of a message.
  bool IsEndToken(int32_t token) const { return tokens_[token].ends_generation; }

 private:
  friend class StreamingEncoder;

  struct Token {
    std::string bytes;
    bool special = false;
    bool ends_generation = false;
  };

  Tokenizer() = default;
  absl::Status LoadTokens(const GgufFile& file);
  absl::Status LoadMerges(const GgufFile& file);
  absl::Status LoadNamedTokens(const GgufFile& file);

  std::vector<Token> tokens_;
  BytePairEncoding encoding_;
  SpecialTokenMatcher special_tokens_;
  std::optional<int32_t> bos_;
  std::optional<int32_t> eos_;
  bool adds_bos_ = false;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_TOKENIZER_H_
