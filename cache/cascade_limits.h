#ifndef WEIR_CACHE_CASCADE_LIMITS_H_
#define WEIR_CACHE_CASCADE_LIMITS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cascade_config.h"

namespace weir {

// Sub-caches of one session, at most. The last of 32 keeps one token of 2^31.
inline constexpr int kMaxSubCaches = 32;

// What a server can give one session; everything is allocated for these sizes at start-up.
struct CascadeLimits {
  int64_t positions = 0;    // positions the model was trained for
  int64_t total_slots = 0;  // sinks + slots of one session, at most
  int stride = 0;           // rows of one session in one step, at most
};

// The limits of a server whose sessions have at most the settings `largest`, which may be absurd:
// only settings that pass ValidateCascade with these limits mean anything.
CascadeLimits LimitsOf(const CascadeConfig& largest, int64_t positions);

// INVALID_ARGUMENT, naming the setting, its value and the limit, unless all of this holds:
//   sinks >= 0, slots >= 1, stride >= 1
//   1 <= sub_caches <= kMaxSubCaches, and sub_caches divides slots
//   0 <= beta <= 1 (0: only the last query counts; 1: scores never fade)
//   sinks + slots <= limits.total_slots
//   stride <= limits.stride
//   sinks + slots + stride <= limits.positions, since positions are dense ranks in the cache
absl::Status ValidateCascade(const CascadeConfig& cascade, const CascadeLimits& limits);

// Rotations a session with valid settings can ask of its RopeTable: all it uses, for queries and
// keys, are below this.
int64_t RotationsNeeded(const CascadeConfig& cascade);

// Rotations that serve every session whose settings pass ValidateCascade with these limits, each
// limit at least 1 and `positions` at least 2.
int64_t RotationsNeeded(const CascadeLimits& limits);

}  // namespace weir

#endif  // WEIR_CACHE_CASCADE_LIMITS_H_
