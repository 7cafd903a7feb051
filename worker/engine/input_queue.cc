#include "worker/engine/input_queue.h"

#include <algorithm>
#include <cassert>

namespace weir {

void InputQueue::Push(absl::Span<const int32_t> tokens) {
  if (tokens.empty()) return;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  text_open_ = true;
}

void InputQueue::EndText() {
  if (!text_open_) return;
  text_open_ = false;
  const int64_t end = taken_ + size();
  const int64_t last_end = text_ends_.empty() ? taken_ : text_ends_.back();
  if (end > last_end) text_ends_.push_back(end);
}

int InputQueue::NextChunk(int stride) const {
  if (!text_ends_.empty()) {
    return static_cast<int>(std::min<int64_t>(stride, text_ends_.front() - taken_));
  }
  return size() >= stride ? stride : 0;
}

std::vector<int32_t> InputQueue::Take(int count) {
  assert(count <= size());
  std::vector<int32_t> chunk(tokens_.begin(), tokens_.begin() + count);
  tokens_.erase(tokens_.begin(), tokens_.begin() + count);
  taken_ += count;
  if (!text_ends_.empty() && text_ends_.front() == taken_) text_ends_.pop_front();
  return chunk;
}

void InputQueue::Truncate(int64_t count) {
  assert(count <= size());
  tokens_.resize(count);
  while (!text_ends_.empty() && text_ends_.back() > taken_ + count) text_ends_.pop_back();
  assert(count == 0 || (!text_ends_.empty() && text_ends_.back() == taken_ + count));
  text_open_ = false;
}

}  // namespace weir
