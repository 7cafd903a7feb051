#ifndef WEIR_KERNELS_CASCADE_POLICY_H_
#define WEIR_KERNELS_CASCADE_POLICY_H_

#include <cstdint>

#include "kernels/host_device.h"

namespace weir {

// The admission rule of the cascade, whole: which arrivals a sub-cache accepts, and who wins a slot
// when it does not. Host and device compile this one copy.

// Whether sub-cache `level` accepts the arrival pushed by stream token `token` (0-based in the
// session, at least `sinks`). While the cache fills, everything is accepted; later every
// 2^level-th.
WEIR_HOST_DEVICE constexpr bool SubCacheAccepts(int64_t token, int sinks, int slots, int level) {
  return token <= int64_t{slots} + sinks || ((token - sinks) & ((int64_t{1} << level) - 1)) == 0;
}

// Whether an arrival that was not accepted takes the slot of the ring's newest token.
WEIR_HOST_DEVICE constexpr bool ChallengerWins(float challenger_score, float incumbent_score) {
  return challenger_score >= incumbent_score;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CASCADE_POLICY_H_
