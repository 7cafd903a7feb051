#ifndef WEIR_WORKER_ENGINE_INPUT_QUEUE_H_
#define WEIR_WORKER_ENGINE_INPUT_QUEUE_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/types/span.h"

namespace weir {

// Tokens that a session has been given and has not read yet, as texts that are cut into chunks.
// A text is cut at multiples of the stride from its own start, so every chunk is full but the last
// one of a text, which waits until the text's end is known. Not thread-safe.
class InputQueue {
 public:
  // Adds tokens to the open text; opens one if there is none.
  void Push(absl::Span<const int32_t> tokens);

  // Ends the open text; no effect if there is none.
  void EndText();

  // Tokens of the next chunk, at most `stride`; 0 if none can be cut yet.
  int NextChunk(int stride) const;

  // Takes `count` tokens, which NextChunk returned.
  std::vector<int32_t> Take(int count);

  // Drops all but the first `count` tokens, which must end with a text, or be none.
  void Truncate(int64_t count);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  bool empty() const { return tokens_.empty(); }
  // Whether the last text may go on; it may have been read so far as it came.
  bool text_open() const { return text_open_; }

 private:
  std::deque<int32_t> tokens_;
  std::deque<int64_t> text_ends_;  // of ended texts with tokens left, as total tokens ever pushed
  int64_t taken_ = 0;              // tokens ever taken
  bool text_open_ = false;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_INPUT_QUEUE_H_
