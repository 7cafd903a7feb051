#ifndef WEIR_COORDINATOR_PLACEMENT_H_
#define WEIR_COORDINATOR_PLACEMENT_H_

#include <cstddef>
#include <optional>

#include "absl/types/span.h"

namespace weir {

// How full a group is.
struct GroupLoad {
  int sessions = 0;       // that it holds
  int session_slots = 0;  // that it can hold
};

// The group that gets the next session: the one with the most free slots, the first of several.
// A full group is chosen too, because it alone knows and says so. Nothing when there is no group.
std::optional<size_t> PlaceSession(absl::Span<const GroupLoad> groups);

}  // namespace weir

#endif  // WEIR_COORDINATOR_PLACEMENT_H_
