#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_OUTPUT_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_OUTPUT_CUH_

// The second launch of decode attention: the splits' results become the output.

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_head.cuh"
#include "kernels/cuda/decode/decode_softmax.cuh"

namespace weir {

constexpr int kOutputWarps = 4;
constexpr int kOutputLoads = 9;   // splits' outputs that a warp has on their way at a time
constexpr int kOutputBlocks = 8;  // of a multiprocessor

// Puts the token's own key and value where the third launch finds them when qkv has become another
// layer's.
__device__ inline void KeepOwnRows(const DecodeHead& head) {
  const int vectors = head.attention.head_dim / 8;  // of a row
  const int i = static_cast<int>(threadIdx.x);
  if (i >= 2 * vectors) return;
  const __nv_bfloat16* from = i < vectors ? head.own_key() : head.own_value();
  reinterpret_cast<uint4*>(head.kept_own_key())[i] =
      reinterpret_cast<const uint4*>(from)[i % vectors];
}

// Grid: (blocks of kOutputWarps / kHeadWarps query heads of a KV head, kv_heads, sequences). The
// warps of a query head share its splits. Blocks are so small that many find room beside the first
// launch's last ones, and as few as will do, so that the next product's find room beside them.
template <int kHeadDim, int kHeadWarps>
__global__ void __launch_bounds__(kOutputWarps * 32, kOutputBlocks)
    DecodeOutputKernel(const __grid_constant__ DecodeAttention attention) {
  constexpr int kVectors = kHeadDim / 4;
  static_assert(2 * kHeadDim / 8 <= kOutputWarps * 32);
  __shared__ float4 sums[kOutputWarps][kVectors];
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  const bool active = sequence.active;
  const DecodeHead head = {attention, sequence, row, static_cast<int>(blockIdx.y)};
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int query_head = (static_cast<int>(blockIdx.x) * kOutputWarps + warp) / kHeadWarps;
  const int part = warp % kHeadWarps;
  const int group = head.group();
  const int splits = query_head < group ? head.splits() : 0;
  WaitForEarlierKernels();
  if (!active) return;
  if (blockIdx.x == 0) KeepOwnRows(head);

  const float2* softmaxes = attention.scratch.partial_softmaxes + head.first_result() + query_head;
  const float4* outputs = reinterpret_cast<const float4*>(attention.scratch.partial_outputs) +
                          (head.first_result() + query_head) * kVectors + lane % kVectors;
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  float log2_sum = 0.0f;
  for (int first = part; first < splits; first += kOutputLoads * kHeadWarps) {
    float4 loaded[kOutputLoads];
#pragma unroll
    for (int i = 0; i < kOutputLoads; ++i) {
      const int64_t split = first + i * kHeadWarps;
      if (split < splits) loaded[i] = outputs[split * group * kVectors];
    }
    // Lane i has the weight of loaded[i].
    const int64_t split = min(first + min(lane, kOutputLoads - 1) * kHeadWarps, splits - 1);
    const float largest = softmaxes[split * group].x;
    if (first == part) log2_sum = CombineSoftmaxes(head, query_head);
    const float own_weight = Exp2(largest - log2_sum);
#pragma unroll
    for (int i = 0; i < kOutputLoads; ++i) {
      if (first + i * kHeadWarps >= splits) break;
      const float weight = __shfl_sync(0xffffffff, own_weight, i);
      sum.x += weight * loaded[i].x;
      sum.y += weight * loaded[i].y;
      sum.z += weight * loaded[i].z;
      sum.w += weight * loaded[i].w;
    }
  }
  if constexpr (kHeadWarps > 1) {
    if (lane < kVectors) sums[warp][lane] = sum;
    __syncthreads();
  }
  if (part > 0 || query_head >= group || lane >= kVectors) return;
#pragma unroll
  for (int i = 1; i < kHeadWarps; ++i) {
    const int other = warp + i;
    sum.x += sums[other][lane].x;
    sum.y += sums[other][lane].y;
    sum.z += sums[other][lane].z;
    sum.w += sums[other][lane].w;
  }
  __nv_bfloat16* const out = attention.out + row * attention.out_stride +
                             (static_cast<int64_t>(head.kv_head) * group + query_head) * kHeadDim;
  reinterpret_cast<uint2*>(out)[lane] = {PackBFloat16(sum.x, sum.y), PackBFloat16(sum.z, sum.w)};
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_OUTPUT_CUH_
