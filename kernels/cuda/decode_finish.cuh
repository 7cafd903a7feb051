#ifndef WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_
#define WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_

// The second launch of decode attention: the splits' results become the output, probabilities
// become scores, and the token is admitted.

#include "kernels/cuda/decode_admission.cuh"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/decode_head.cuh"
#include "kernels/cuda/dependent_launch.cuh"
#include "kernels/cuda/ptx.h"

namespace weir {

constexpr int kThreadSlots = 4;                              // whose scores a thread updates
constexpr int kFinishSlots = kFinishThreads * kThreadSlots;  // and a block

// log2 of the sum of 2^logit, of every query head; a warp each.
__device__ inline void CombineSoftmaxes(const DecodeHead& head, float* log2_sums) {
  const int lane = threadIdx.x % 32;
  const int group = head.group();
  const float2* partials = head.attention.partial_softmaxes + head.first_result();
  for (int i = threadIdx.x / 32; i < group; i += kFinishWarps) {
    float largest = -1e30f;
    float sum = 0.0f;
    for (int split = lane; split < head.splits(); split += 32) {
      const float2 partial = partials[static_cast<int64_t>(split) * group + i];
      const float larger = fmaxf(largest, partial.x);
      sum = sum * Exp2(largest - larger) + partial.y * Exp2(partial.x - larger);
      largest = larger;
    }
    for (int distance = 16; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(0xffffffff, largest, distance);
      const float other_sum = __shfl_xor_sync(0xffffffff, sum, distance);
      const float larger = fmaxf(largest, other);
      sum = sum * Exp2(largest - larger) + other_sum * Exp2(other - larger);
      largest = larger;
    }
    if (lane == 0) log2_sums[i] = largest + log2f(sum);
  }
}

// This block's share of the output, 32 dimensions of a query head at a time: each warp adds up
// some of the splits.
__device__ inline void CombineOutputs(const DecodeHead& head, const float* log2_sums, int part,
                                      int parts) {
  __shared__ float sums[kFinishWarps][32];
  const int head_dim = head.attention.head_dim;
  const int group = head.group();
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const float* outputs = head.attention.partial_outputs + head.first_result() * head_dim;
  const float2* softmaxes = head.attention.partial_softmaxes + head.first_result();
  __nv_bfloat16* out = head.attention.out + head.row * head.attention.out_stride +
                       static_cast<int64_t>(head.kv_head) * group * head_dim;
  for (int piece = part; piece < group * head_dim / 32; piece += parts) {
    const int i = piece * 32 + lane;
    const int query_head = i / head_dim;
    float sum = 0.0f;
#pragma unroll 4
    for (int split = warp; split < head.splits(); split += kFinishWarps) {
      const int64_t result = static_cast<int64_t>(split) * group;
      const float weight = Exp2(softmaxes[result + query_head].x - log2_sums[query_head]);
      sum += weight * outputs[result * head_dim + i];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0) {
      for (int other = 1; other < kFinishWarps; ++other) sum += sums[other][lane];
      out[i] = __float2bfloat16(sum);
    }
    __syncthreads();
  }
}

// Of a part of the slots, but those whose scores AdmitToken updates.
__device__ inline void UpdateScores(const DecodeHead& head, const float* log2_sums, int part) {
  const DecodeSequence& sequence = head.sequence;
  float* scores = head.attention.scores + head.first_slot();
  const int first = part * kFinishSlots + threadIdx.x;
  float before[kThreadSlots];
  float probabilities[kThreadSlots];
#pragma unroll
  for (int i = 0; i < kThreadSlots; ++i) {
    const int slot = first + i * kFinishThreads;
    if (slot >= sequence.cached) continue;
    before[i] = scores[slot];
    probabilities[i] = ReducedProbability(head, log2_sums, slot);
  }
#pragma unroll
  for (int i = 0; i < kThreadSlots; ++i) {
    const int slot = first + i * kFinishThreads;
    if (slot >= sequence.cached) continue;
    bool others = false;
    if (slot >= sequence.sinks) {
      const int ring = (slot - sequence.sinks) / sequence.ring_slots;
      others = slot == NewestSlot(sequence, ring) || slot == OldestSlot(sequence, ring);
    }
    if (!others) scores[slot] = UpdatedScore(head, before[i], probabilities[i]);
  }
}

// Grid: (1 + parts of the slots, kv_heads, sequences). Block 0 admits, which takes longest.
__global__ void __launch_bounds__(kFinishThreads)
    DecodeFinishKernel(const __grid_constant__ DecodeAttention attention) {
  __shared__ float log2_sums[kMostGroup];
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  if (!sequence.active) return;
  const DecodeHead head = {attention, sequence, row, static_cast<int>(blockIdx.y)};
  CombineSoftmaxes(head, log2_sums);
  __syncthreads();
  if (blockIdx.x == 0) {
    AdmitToken(head, log2_sums);
  } else {
    const int part = static_cast<int>(blockIdx.x) - 1;
    UpdateScores(head, log2_sums, part);
    CombineOutputs(head, log2_sums, part, static_cast<int>(gridDim.x) - 1);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_
