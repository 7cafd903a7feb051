#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_SOFTMAX_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_SOFTMAX_CUH_

// The softmaxes of decode attention's splits, put together.

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_head.cuh"
#include "kernels/cuda/decode/decode_share.cuh"

namespace weir {

// log2 of the sum of 2^logit, of one query head of the group. By a warp; all lanes get it.
__device__ inline float CombineSoftmaxes(const DecodeHead& head, int query_head) {
  const int lane = threadIdx.x % 32;
  const int group = head.group();
  const float2* partials =
      head.attention.scratch.partial_softmaxes + head.first_result() + query_head;
  float largest = kNoScore;
  float sum = 0.0f;
  constexpr int kLoads = 4;
  for (int first = lane; first < head.splits(); first += kLoads * 32) {
    float2 loaded[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int split = first + j * 32;
      loaded[j] = split < head.splits() ? partials[static_cast<int64_t>(split) * group]
                                        : make_float2(kNoScore, 0.0f);
    }
#pragma unroll
    for (const float2 partial : loaded) {
      const float larger = fmaxf(largest, partial.x);
      sum = sum * Exp2(largest - larger) + partial.y * Exp2(partial.x - larger);
      largest = larger;
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(0xffffffff, largest, distance);
    const float other_sum = __shfl_xor_sync(0xffffffff, sum, distance);
    const float larger = fmaxf(largest, other);
    sum = sum * Exp2(largest - larger) + other_sum * Exp2(other - larger);
    largest = larger;
  }
  return largest + log2f(sum);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_SOFTMAX_CUH_
