#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_

// The first launch of decode attention: a block's share of the keys of one KV head, for up to 8
// query heads, cut further over its warps.

#include <cstdint>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/decode_attend_warp.cuh"
#include "kernels/cuda/decode/decode_attention.h"

namespace weir {

constexpr int kKeysPerWarp = DecodeAttention::kKeysPerSplit / kDecodeWarps;

// Grid: (Splits, kv_heads * blocks of kDecodeHeads query heads, sequences).
template <int kHeadDim>
__global__ void __launch_bounds__(kDecodeWarps * 32)
    DecodeAttendKernel(const __grid_constant__ DecodeAttention attention) {
  __shared__ typename DecodeAttendWarp<kHeadDim>::Shared shared;
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  const int first_key = blockIdx.x * DecodeAttention::kKeysPerSplit;
  const int keys = sequence.cached + 1;
  if (!sequence.active || first_key >= keys) {
    WaitForEarlierKernels();
    return;
  }

  const int group = attention.query_heads / attention.kv_heads;
  const int head_blocks = (group + kDecodeHeads - 1) / kDecodeHeads;
  const int kv_head = blockIdx.y / head_blocks;
  const int first_head = blockIdx.y % head_blocks * kDecodeHeads;
  const int heads = min(group - first_head, kDecodeHeads);
  const int warp = threadIdx.x / 32;
  DecodeAttendWarp<kHeadDim> attend(attention, sequence, row, kv_head, first_head, heads);
  const int begin = first_key + warp * kKeysPerWarp;
  attend.Attend(begin, min(begin + kKeysPerWarp, keys));
  attend.Store(shared, warp);
  // What this block writes may still be read: a warp without keys has not waited.
  WaitForEarlierKernels();
  __syncthreads();

  const int64_t first_result =
      ((static_cast<int64_t>(row) * attention.kv_heads + kv_head) * gridDim.x + blockIdx.x) *
          group +
      first_head;
  for (int i = threadIdx.x; i < heads * kHeadDim; i += kDecodeWarps * 32) {
    const int head = i / kHeadDim;
    float largest = kNoScore;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) largest = fmaxf(largest, shared.maxima[w][head]);
    float output = 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) {
      const float weight = Exp2(shared.maxima[w][head] - largest);
      output += weight * shared.outputs[w][head][i % kHeadDim];
      sum += weight * shared.sums[w][head];
    }
    attention.scratch.partial_outputs[first_result * kHeadDim + i] = output;
    if (i % kHeadDim == 0) {
      attention.scratch.partial_softmaxes[first_result + head] = make_float2(largest, sum);
    }
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_
