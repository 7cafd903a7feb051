#ifndef WEIR_KERNELS_CUDA_COMMON_BFLOAT16_VECTOR_CUH_
#define WEIR_KERNELS_CUDA_COMMON_BFLOAT16_VECTOR_CUH_

// Rows of bfloat16 and of float taken eight values at a time, from addresses aligned to 16 bytes.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/common/ptx.h"

namespace weir {

constexpr int kVector = 8;  // bfloat16 in 16 bytes

struct BFloat16Vector {
  uint4 bits;

  __device__ static BFloat16Vector Load(const __nv_bfloat16* from) {
    return {*reinterpret_cast<const uint4*>(from)};
  }
  __device__ void Store(__nv_bfloat16* to) const { *reinterpret_cast<uint4*>(to) = bits; }

  __device__ void Unpack(float (&values)[kVector]) const {
    const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = LowOfPair(pairs[i]);
      values[2 * i + 1] = HighOfPair(pairs[i]);
    }
  }
  __device__ static BFloat16Vector Round(const float (&values)[kVector]) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = PackBFloat16(values[2 * i], values[2 * i + 1]);
    }
    return {make_uint4(pairs[0], pairs[1], pairs[2], pairs[3])};
  }
};

__device__ inline void LoadFloats(const float* from, float (&values)[kVector]) {
  *reinterpret_cast<float4*>(values) = *reinterpret_cast<const float4*>(from);
  *reinterpret_cast<float4*>(values + 4) = *reinterpret_cast<const float4*>(from + 4);
}
__device__ inline void StoreFloats(const float (&values)[kVector], float* to) {
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(values);
  *reinterpret_cast<float4*>(to + 4) = *reinterpret_cast<const float4*>(values + 4);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_BFLOAT16_VECTOR_CUH_
