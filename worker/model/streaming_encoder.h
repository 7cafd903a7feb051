#ifndef WEIR_WORKER_MODEL_STREAMING_ENCODER_H_
#define WEIR_WORKER_MODEL_STREAMING_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/model/byte_pair_encoding.h"
#include "worker/model/pre_tokenizer.h"
#include "worker/model/tokenizer.h"

namespace weir {

// Tokenizes one text that arrives in parts, cut anywhere, even inside a character. All parts
// together give the tokens that Tokenizer::Encode gives for the whole text; what later text might
// still change (usually the last word) is held back. Holds no more than that in memory.
//
// The first error ends the text: later calls return it again. Not thread-safe; the tokenizer must
// outlive it.
class StreamingEncoder {
 public:
  // The longest run of bytes between two places where tokens must end (a word, or a run of spaces
  // or of punctuation). Sane text stays far below; longer runs are refused to bound memory.
  static constexpr size_t kMaxPieceBytes = size_t{16} << 20;

  StreamingEncoder(const Tokenizer& tokenizer, const EncodeOptions& options);

  // Takes the next part of the text and appends the tokens that are now certain to `tokens`.
  // INVALID_ARGUMENT: not UTF-8, or a piece of more than kMaxPieceBytes, naming the byte offset in
  // the whole text.
  absl::Status Append(absl::string_view part, std::vector<int32_t>& tokens);

  // The text is whole: appends the remaining tokens. INVALID_ARGUMENT if it ends inside a
  // character. The encoder is used up.
  absl::Status Finish(std::vector<int32_t>& tokens);

 private:
  // Goes on through `text`, the bytes from offset `begin_` on, as far as it is certain.
  absl::Status Scan(absl::string_view text, bool is_whole, std::vector<int32_t>& tokens);
  void AddBosOnce(std::vector<int32_t>& tokens);

  const Tokenizer& tokenizer_;
  const EncodeOptions options_;
  PreTokenizer pre_tokenizer_;
  BytePairEncoding::Scratch scratch_;
  std::vector<uint64_t> piece_ends_;
  std::string held_back_;  // from begin_ on
  uint64_t begin_ = 0;     // offset of the first byte whose token was not emitted yet
  uint64_t scanned_ = 0;   // offset of the first byte that the pre-tokenizer has not seen
  bool bos_added_ = false;
  absl::Status status_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_STREAMING_ENCODER_H_
