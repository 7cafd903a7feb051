#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_FINISH_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_FINISH_CUH_

// The third launch of decode attention: probabilities become scores, and the token is admitted.
// Only the next step needs either.

#include "kernels/cuda/decode/decode_admission.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_head.cuh"
#include "kernels/cuda/decode/decode_softmax.cuh"

namespace weir {

constexpr int kThreadSlots = 6;                              // whose scores a thread updates
constexpr int kFinishSlots = kFinishThreads * kThreadSlots;  // and a block

// The scores of a part of the slots, but those that AdmitToken brings up to date.
__device__ inline void UpdateScores(const DecodeHead& head, const float* log2_sums, int part) {
  const DecodeSequence& sequence = head.sequence;
  float* const scores = head.attention.scores + head.first_slot();
  int slots[kThreadSlots];
#pragma unroll
  for (int i = 0; i < kThreadSlots; ++i) {
    const int slot = part * kFinishSlots + i * kFinishThreads + static_cast<int>(threadIdx.x);
    slots[i] = slot < sequence.cached ? slot : -1;
  }
  for (int ring = 0; ring < sequence.ring_count; ++ring) {
    const int oldest = sequence.rings[ring].oldest;
    const int newest = sequence.rings[ring].newest;
#pragma unroll
    for (int& slot : slots) {
      if (slot == oldest || slot == newest) slot = -1;
    }
  }
  float before[kThreadSlots];
#pragma unroll
  for (int i = 0; i < kThreadSlots; ++i) before[i] = slots[i] >= 0 ? scores[slots[i]] : 0.0f;
  float probabilities[kThreadSlots];
  ReducedProbabilities(head, log2_sums, slots, probabilities);
#pragma unroll
  for (int i = 0; i < kThreadSlots; ++i) {
    if (slots[i] >= 0) scores[slots[i]] = UpdatedScore(head, before[i], probabilities[i]);
  }
}

// Grid: (1 + parts of the slots, kv_heads, sequences). Block 0 admits, which takes longest.
__global__ void __launch_bounds__(kFinishThreads)
    DecodeFinishKernel(const __grid_constant__ DecodeAttention attention) {
  __shared__ float log2_sums[DecodeAttention::kMostGroup];
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  if (!sequence.active) return;
  const DecodeHead head = {attention, sequence, row, static_cast<int>(blockIdx.y)};
  for (int i = threadIdx.x / 32; i < head.group(); i += kFinishWarps) {
    const float log2_sum = CombineSoftmaxes(head, i);
    if (threadIdx.x % 32 == 0) log2_sums[i] = log2_sum;
  }
  __syncthreads();
  if (blockIdx.x == 0) {
    AdmitToken(head, log2_sums);
  } else {
    UpdateScores(head, log2_sums, static_cast<int>(blockIdx.x) - 1);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_FINISH_CUH_
