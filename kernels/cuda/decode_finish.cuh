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

constexpr int kThreadSlots = 6;                              // whose scores a thread updates
constexpr int kFinishSlots = kFinishThreads * kThreadSlots;  // and a block

// log2 of the sum of 2^logit, of every query head; a warp each.
__device__ inline void CombineSoftmaxes(const DecodeHead& head, float* log2_sums) {
  const int lane = threadIdx.x % 32;
  const int group = head.group();
  const float2* partials = head.attention.partial_softmaxes + head.first_result();
  constexpr int kLoads = 4;
  for (int i = threadIdx.x / 32; i < group; i += kFinishWarps) {
    float largest = -1e30f;
    float sum = 0.0f;
    for (int first = lane; first < head.splits(); first += kLoads * 32) {
      float2 loaded[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int split = first + j * 32;
        loaded[j] = split < head.splits() ? partials[static_cast<int64_t>(split) * group + i]
                                          : make_float2(-1e30f, 0.0f);
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

// A thread's slots of a part, whose scores it updates, but those that AdmitToken does.
class ScoreUpdate {
 public:
  // Reads the scores as they are: nothing in this step has changed them.
  __device__ ScoreUpdate(const DecodeHead& head, int part)
      : head_(head), scores_(head.attention.scores + head.first_slot()) {
    const DecodeSequence& sequence = head.sequence;
#pragma unroll
    for (int i = 0; i < kThreadSlots; ++i) {
      const int slot = part * kFinishSlots + i * kFinishThreads + static_cast<int>(threadIdx.x);
      slots_[i] = slot < sequence.cached ? slot : -1;
    }
    for (int ring = 0; ring < sequence.ring_count; ++ring) {
      const int oldest = sequence.rings[ring].oldest;
      const int newest = sequence.rings[ring].newest;
#pragma unroll
      for (int& slot : slots_) {
        if (slot == oldest || slot == newest) slot = -1;
      }
    }
#pragma unroll
    for (int i = 0; i < kThreadSlots; ++i) {
      before_[i] = slots_[i] >= 0 ? scores_[slots_[i]] : 0.0f;
    }
  }

  __device__ void Run(const float* log2_sums) const {
    float probabilities[kThreadSlots];
    ReducedProbabilities(head_, log2_sums, slots_, probabilities);
#pragma unroll
    for (int i = 0; i < kThreadSlots; ++i) {
      if (slots_[i] < 0) continue;
      scores_[slots_[i]] = UpdatedScore(head_, before_[i], probabilities[i]);
    }
  }

 private:
  const DecodeHead& head_;
  float* scores_;
  int slots_[kThreadSlots];
  float before_[kThreadSlots];
};

// Grid: (1 + parts of the slots, kv_heads, sequences). Block 0 admits, which takes longest.
__global__ void __launch_bounds__(kFinishThreads)
    DecodeFinishKernel(const __grid_constant__ DecodeAttention attention) {
  __shared__ float log2_sums[kMostGroup];
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  if (!sequence.active) {
    WaitForEarlierKernels();
    return;
  }
  const DecodeHead head = {attention, sequence, row, static_cast<int>(blockIdx.y)};
  if (blockIdx.x == 0) {
    WaitForEarlierKernels();
    CombineSoftmaxes(head, log2_sums);
    __syncthreads();
    AdmitToken(head, log2_sums);
  } else {
    const int part = static_cast<int>(blockIdx.x) - 1;
    const ScoreUpdate update(head, part);
    WaitForEarlierKernels();
    CombineSoftmaxes(head, log2_sums);
    __syncthreads();
    update.Run(log2_sums);
    CombineOutputs(head, log2_sums, part, static_cast<int>(gridDim.x) - 1);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_
