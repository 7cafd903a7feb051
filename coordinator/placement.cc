#include "coordinator/placement.h"

namespace weir {

std::optional<size_t> PlaceSession(absl::Span<const GroupLoad> groups) {
  std::optional<size_t> best;
  const auto free_slots = [&](size_t i) { return groups[i].session_slots - groups[i].sessions; };
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!best || free_slots(i) > free_slots(*best)) best = i;
  }
  return best;
}

}  // namespace weir
