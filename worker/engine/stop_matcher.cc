#include "worker/engine/stop_matcher.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"

namespace weir {

std::string StopMatcher::Append(absl::string_view piece) {
  held_.append(piece.data(), piece.size());
  size_t first = std::string::npos;
  for (const std::string& stop : stop_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    found_ = true;
    held_.resize(first);
    return std::exchange(held_, {});
  }

  // Hold back from the first byte whence all that follows is the beginning of a stop text.
  size_t longest = 0;
  for (const std::string& stop : stop_) longest = std::max(longest, stop.size());
  size_t hold = held_.size() - std::min(held_.size(), longest);
  const auto may_become_stop = [&](size_t from) {
    const absl::string_view tail = absl::string_view(held_).substr(from);
    return std::any_of(stop_.begin(), stop_.end(),
                       [&](const std::string& stop) { return absl::StartsWith(stop, tail); });
  };
  while (hold < held_.size() && !may_become_stop(hold)) ++hold;
  std::string certain = held_.substr(0, hold);
  held_.erase(0, hold);
  return certain;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace weir
