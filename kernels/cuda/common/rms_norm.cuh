#ifndef WEIR_KERNELS_CUDA_COMMON_RMS_NORM_CUH_
#define WEIR_KERNELS_CUDA_COMMON_RMS_NORM_CUH_

#include <cuda_runtime.h>

#include "kernels/cuda/common/bfloat16_vector.cuh"

namespace weir {

// Threads of a block that normalises a row.
constexpr int kNormThreads = 512;

// The sum over a block of kNormThreads; a block that calls this again synchronises in between.
__device__ inline float NormBlockSum(float value) {
  __shared__ float warp_sums[kNormThreads / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffff, value, distance);
  }
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (const float warp_sum : warp_sums) sum += warp_sum;
  return sum;
}

// One block, one row: with kAdd x += delta first; then store(x / rms(x) * weight). `delta(i)` gives
// the BFloat16Vector of the columns from i on, `store(vector, i)` takes one. A thread holds kHeld
// times 8 values; of wider rows, the rest is read twice.
template <bool kAdd, typename Delta, typename Store>
__device__ void RmsNormRow(float* x, Delta delta, const float* weight, float epsilon, int width,
                           Store store) {
  constexpr int kHeld = 2;
  float held[kHeld][kVector];
  float squares = 0.0f;
  int step = 0;
  for (int i = threadIdx.x * kVector; i < width; i += kNormThreads * kVector, ++step) {
    float values[kVector];
    LoadFloats(x + i, values);
    if (kAdd) {
      float added[kVector];
      delta(i).Unpack(added);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] += added[j];
      StoreFloats(values, x + i);
    }
#pragma unroll
    for (const float value : values) squares += value * value;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) held[j][k] = step == j ? values[k] : held[j][k];
    }
  }
  const float scale = rsqrtf(NormBlockSum(squares) / width + epsilon);
  step = 0;
  for (int i = threadIdx.x * kVector; i < width; i += kNormThreads * kVector, ++step) {
    float values[kVector];
    if (step >= kHeld) LoadFloats(x + i, values);
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) values[k] = step == j ? held[j][k] : values[k];
    }
    float weights[kVector];
    LoadFloats(weight + i, weights);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= scale * weights[j];
    store(BFloat16Vector::Round(values), i);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_RMS_NORM_CUH_
