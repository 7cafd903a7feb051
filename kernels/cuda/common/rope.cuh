#ifndef WEIR_KERNELS_CUDA_COMMON_ROPE_CUH_
#define WEIR_KERNELS_CUDA_COMMON_ROPE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/common/rope.h"

namespace weir {

__device__ inline float2 UnpackPair(const __nv_bfloat16* pair) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(pair));
}
__device__ inline float2 RoundPair(__nv_bfloat16* pair, float2 values) {
  const __nv_bfloat162 rounded = __float22bfloat162_rn(values);
  *reinterpret_cast<__nv_bfloat162*>(pair) = rounded;
  return __bfloat1622float2(rounded);
}

// cos and sin for dimensions i and i + 1, i even, of one rotation.
struct Turn {
  float2 cos, sin;
};

__device__ inline Turn TurnBy(const DeviceRope& rope, int half, int rotation, int i) {
  const int64_t at = static_cast<int64_t>(rotation) * half + i;
  return {*reinterpret_cast<const float2*>(rope.cos + at),
          *reinterpret_cast<const float2*>(rope.sin + at)};
}
__device__ inline Turn TurnBackBy(const DeviceRope& rope, int half, int rotation, int i) {
  const Turn turn = TurnBy(rope, half, rotation, i);
  return {turn.cos, {-turn.sin.x, -turn.sin.y}};
}
__device__ inline Turn TurnBetween(const DeviceRope& rope, int half, int from, int to, int i) {
  const Turn a = TurnBy(rope, half, from, i);
  const Turn b = TurnBy(rope, half, to, i);
  return {{b.cos.x * a.cos.x + b.sin.x * a.sin.x, b.cos.y * a.cos.y + b.sin.y * a.sin.y},
          {b.sin.x * a.cos.x - b.cos.x * a.sin.x, b.sin.y * a.cos.y - b.cos.y * a.sin.y}};
}

// Dimensions i, i + 1 and those half a head later, turned. Returns the sum of their squares as
// stored.
__device__ inline float RotatePairs(const __nv_bfloat16* from, __nv_bfloat16* to, int half, int i,
                                    const Turn& turn) {
  const float2 a = UnpackPair(from + i);
  const float2 b = UnpackPair(from + half + i);
  const float2 c =
      RoundPair(to + i, {a.x * turn.cos.x - b.x * turn.sin.x, a.y * turn.cos.y - b.y * turn.sin.y});
  const float2 d = RoundPair(
      to + half + i, {b.x * turn.cos.x + a.x * turn.sin.x, b.y * turn.cos.y + a.y * turn.sin.y});
  return c.x * c.x + c.y * c.y + d.x * d.x + d.y * d.y;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_ROPE_CUH_
