#ifndef WEIR_WORKER_ENGINE_SESSION_CAPACITY_H_
#define WEIR_WORKER_ENGINE_SESSION_CAPACITY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weir {

// How many sessions a group of ranks has memory for, by arithmetic.

// What a rank has for more sessions.
struct RankMemory {
  std::string place;          // which memory it is: ranks of the same place share it
  int64_t free = 0;           // bytes that are left there
  int64_t session_bytes = 0;  // that one session takes of this rank
};

// Bytes that tell other ranks, and what they tell. INTERNAL if they do not.
std::string SerializeRankMemory(const RankMemory& memory);
absl::StatusOr<RankMemory> ParseRankMemory(absl::string_view bytes);

// Sessions that all of the ranks, one at least, have room for.
int64_t SessionsWithRoom(absl::Span<const RankMemory> ranks);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_SESSION_CAPACITY_H_
