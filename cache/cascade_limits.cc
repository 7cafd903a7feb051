#include "cache/cascade_limits.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weir {

CascadeLimits LimitsOf(const CascadeConfig& largest, int64_t positions) {
  return {.positions = positions,
          .total_slots = int64_t{largest.sinks} + largest.slots,
          .stride = largest.stride};
}

absl::Status ValidateCascade(const CascadeConfig& cascade, const CascadeLimits& limits) {
  if (cascade.sinks < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("sinks is ", cascade.sinks, "; it must be at least 0"));
  }
  if (cascade.slots < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("slots is ", cascade.slots, "; it must be at least 1"));
  }
  if (cascade.sub_caches < 1 || cascade.sub_caches > kMaxSubCaches) {
    return absl::InvalidArgumentError(absl::StrCat("sub_caches is ", cascade.sub_caches,
                                                   "; it must be from 1 to ", kMaxSubCaches));
  }
  if (cascade.slots % cascade.sub_caches != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "slots is ", cascade.slots, "; it must be a multiple of sub_caches, ", cascade.sub_caches));
  }
  if (cascade.stride < 1 || cascade.stride > limits.stride) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stride is ", cascade.stride, "; it must be from 1 to this server's ", limits.stride));
  }
  // Negated, so that NaN fails too.
  if (!(cascade.beta >= 0 && cascade.beta <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("beta is %.12g; it must be from 0 to 1", cascade.beta));
  }
  const int64_t slots = int64_t{cascade.sinks} + cascade.slots;
  if (slots > limits.total_slots) {
    return absl::InvalidArgumentError(
        absl::StrCat("sinks + slots is ", cascade.sinks, " + ", cascade.slots, " = ", slots,
                     "; this server gives a session at most ", limits.total_slots, " slots"));
  }
  if (slots + cascade.stride > limits.positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sinks + slots + stride is ", cascade.sinks, " + ", cascade.slots, " + ", cascade.stride,
        " = ", slots + cascade.stride, "; the model has ", limits.positions, " positions"));
  }
  return absl::OkStatus();
}

int64_t RotationsNeeded(const CascadeConfig& cascade) {
  // The last row's query goes furthest: back to the first sink, sinks + slots + stride - 1 away and
  // stored with rotation 0, or to the oldest token of the last ring, slots + stride - 1 away and
  // stored with any slot index up to ring_slots - 1.
  const int64_t farthest_slot = std::max(cascade.sinks, cascade.ring_slots() - 1);
  return farthest_slot + cascade.slots + cascade.stride;
}

int64_t RotationsNeeded(const CascadeLimits& limits) {
  assert(limits.total_slots >= 1 && limits.stride >= 1 && limits.positions >= 2);
  // The worst is one ring without sinks: its slots count both as distance and as slot index.
  const int slots = static_cast<int>(std::min(limits.total_slots, limits.positions - 1));
  const int stride = static_cast<int>(std::min<int64_t>(limits.stride, limits.positions - slots));
  return RotationsNeeded({.sinks = 0, .slots = slots, .sub_caches = 1, .stride = stride});
}

}  // namespace weir
