#ifndef WEIR_KERNELS_CUDA_PEERS_TENSOR_GROUP_CUH_
#define WEIR_KERNELS_CUDA_PEERS_TENSOR_GROUP_CUH_

// A tensor taken eight bytes at a time, and sums over ranks: every kernel that sums over ranks uses
// these, so all give the same bits.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/common/ptx.h"

namespace weir {

// Elements in eight bytes: 4 bfloat16 or 2 floats.
template <typename T>
constexpr int kGroup = static_cast<int>(sizeof(uint2) / sizeof(T));

template <typename T>
__host__ __device__ int64_t GroupsIn(int64_t elements) {
  return (elements + kGroup<T> - 1) / kGroup<T>;
}

// Whether a group lies in the tensor as a whole and where it can be moved as one.
template <typename T>
__device__ bool IsWhole(const T* tensor, int64_t group, int64_t elements) {
  return (group + 1) * kGroup<T> <= elements &&
         reinterpret_cast<uintptr_t>(tensor) % sizeof(uint2) == 0;
}

// Group `group` of a tensor of `elements`; zeros behind its end.
template <typename T>
__device__ uint2 LoadGroup(const T* tensor, int64_t group, int64_t elements) {
  const T* const from = tensor + group * kGroup<T>;
  if (IsWhole(tensor, group, elements)) return *reinterpret_cast<const uint2*>(from);
  T values[kGroup<T>];
#pragma unroll
  for (int i = 0; i < kGroup<T>; ++i) {
    values[i] = group * kGroup<T> + i < elements ? from[i] : T(0.0f);
  }
  uint2 bits;
  std::memcpy(&bits, values, sizeof(bits));
  return bits;
}

template <typename T>
__device__ void StoreGroup(uint2 bits, T* tensor, int64_t group, int64_t elements) {
  T* const to = tensor + group * kGroup<T>;
  if (IsWhole(tensor, group, elements)) {
    *reinterpret_cast<uint2*>(to) = bits;
    return;
  }
  T values[kGroup<T>];
  std::memcpy(values, &bits, sizeof(bits));
#pragma unroll
  for (int i = 0; i < kGroup<T>; ++i) {
    if (group * kGroup<T> + i < elements) to[i] = values[i];
  }
}

__device__ inline void UnpackGroup(uint2 bits, float (&values)[kGroup<float>]) {
  values[0] = __uint_as_float(bits.x);
  values[1] = __uint_as_float(bits.y);
}
__device__ inline void UnpackGroup(uint2 bits, float (&values)[kGroup<__nv_bfloat16>]) {
  values[0] = LowOfPair(bits.x);
  values[1] = HighOfPair(bits.x);
  values[2] = LowOfPair(bits.y);
  values[3] = HighOfPair(bits.y);
}
__device__ inline uint2 PackGroup(const float (&values)[kGroup<float>]) {
  return make_uint2(__float_as_uint(values[0]), __float_as_uint(values[1]));
}
__device__ inline uint2 PackGroup(const float (&values)[kGroup<__nv_bfloat16>]) {
  return make_uint2(PackBFloat16(values[0], values[1]), PackBFloat16(values[2], values[3]));
}

// The sum of the groups of ranks 0, 1, ...: in the order in which they are added, in float32,
// rounded once.
template <typename T>
class GroupSum {
 public:
  __device__ void Begin(uint2 first) { UnpackGroup(first, sum_); }

  __device__ void Add(uint2 bits) {
    float values[kGroup<T>];
    UnpackGroup(bits, values);
#pragma unroll
    for (int i = 0; i < kGroup<T>; ++i) sum_[i] += values[i];
  }

  __device__ uint2 Rounded() const { return PackGroup(sum_); }

 private:
  float sum_[kGroup<T>];
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_TENSOR_GROUP_CUH_
