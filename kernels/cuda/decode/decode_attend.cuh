#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_

// The first launch of decode attention: a block's split of the keys of one KV head, for up to 8
// query heads.
//
// A split has 4 parts, and a part 2 shares: the first share's results are joined with the second's,
// then the parts' with one another. Who does a share changes no result, so blocks have 4 warps, one
// a part, where there are many of them; and 8 warps, one a share, where there are few, which leave
// multiprocessors idle and wait for memory.

#include <cstdint>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/decode_attend_warp.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_key_tiles.cuh"
#include "kernels/cuda/decode/decode_share.cuh"

namespace weir {

constexpr int kDecodeParts = 4;
static_assert(DecodeAttention::kKeysPerSplit == kDecodeParts * 2 * kDecodeShare);
// 8 warps are the most; with this bound on threads the compiler finds registers for three blocks of
// 4 warps in a multiprocessor, or for one of 8 beside a block of the product before it.
constexpr int kDecodeThreadsBound = 3 * kDecodeParts * 32;

// Grid: (Splits, kv_heads * blocks of kDecodeHeads query heads, sequences).
template <int kHeadDim>
__global__ void __launch_bounds__(kDecodeThreadsBound)
    DecodeAttendKernel(const __grid_constant__ DecodeAttention attention) {
  using Result = typename DecodeShare<kHeadDim>::Result;
  __shared__ Result parts[kDecodeParts];
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  const int first_key = blockIdx.x * DecodeAttention::kKeysPerSplit;
  const int keys = sequence.cached + 1;
  if (!sequence.active || first_key >= keys) {
    WaitForEarlierKernels();
    return;
  }

  const int threads = static_cast<int>(blockDim.x);
  const int group = attention.query_heads / attention.kv_heads;
  const int head_blocks = (group + kDecodeHeads - 1) / kDecodeHeads;
  const int kv_head = blockIdx.y / head_blocks;
  const int first_head = blockIdx.y % head_blocks * kDecodeHeads;
  const int heads = min(group - first_head, kDecodeHeads);
  const int warp_shares = 2 * kDecodeParts * 32 / threads;
  const int share = static_cast<int>(threadIdx.x) / 32 * warp_shares;
  const int begin = min(first_key + share * kDecodeShare, keys);
  const int end = min(begin + warp_shares * kDecodeShare, keys);
  Result& part = parts[share / 2];
  DecodeAttendWarp<kHeadDim> attend(attention, sequence, row, kv_head, first_head, heads);
  bool joins = attend.Attend(begin, end, part);
  bool stores = true;
  if (warp_shares == 1) {
    if (share % 2 == 0) attend.share().Store(part);
    __syncthreads();
    joins = stores = share % 2 == 1 && begin < end;
  }
  if (joins) attend.share().Join(part);
  if (stores) attend.share().Store(part);
  // What this block writes may still be read: a warp without keys has not waited.
  WaitForEarlierKernels();
  __syncthreads();

  const int64_t first_result =
      ((static_cast<int64_t>(row) * attention.kv_heads + kv_head) * gridDim.x + blockIdx.x) *
          group +
      first_head;
  for (int i = threadIdx.x; i < heads * kHeadDim; i += threads) {
    const int head = i / kHeadDim;
    float largest = kNoScore;
#pragma unroll
    for (int j = 0; j < kDecodeParts; ++j) largest = fmaxf(largest, parts[j].softmaxes[head].x);
    float output = 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kDecodeParts; ++j) {
      const float weight = Exp2(parts[j].softmaxes[head].x - largest);
      output += weight * parts[j].outputs[head][i % kHeadDim];
      sum += weight * parts[j].softmaxes[head].y;
    }
    attention.scratch.partial_outputs[first_result * kHeadDim + i] = output;
    if (i % kHeadDim == 0) {
      attention.scratch.partial_softmaxes[first_result + head] = make_float2(largest, sum);
    }
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_CUH_
