#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_HEAD_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_HEAD_CUH_

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/decode_attention.h"

namespace weir {

constexpr int kFinishThreads = 256;
constexpr int kFinishWarps = kFinishThreads / 32;

// One KV head of one sequence.
struct DecodeHead {
  const DecodeAttention& attention;
  const DecodeSequence& sequence;
  int row;
  int kv_head;

  __device__ int group() const { return attention.query_heads / attention.kv_heads; }
  __device__ int64_t first_slot() const {
    return ((static_cast<int64_t>(sequence.cache_slot) * attention.layers + attention.layer) *
                attention.kv_heads +
            kv_head) *
           attention.slots;
  }
  __device__ int splits() const { return DecodeAttention::Splits(sequence.cached); }
  // Of the splits' results.
  __device__ int64_t first_result() const {
    return (static_cast<int64_t>(row) * attention.kv_heads + kv_head) *
           DecodeAttention::Splits(attention.slots) * group();
  }
  // [head_dim] each, not rotated.
  __device__ const __nv_bfloat16* own_key() const {
    return attention.qkv + row * attention.qkv_stride +
           static_cast<int64_t>(attention.query_heads + kv_head) * attention.head_dim;
  }
  __device__ const __nv_bfloat16* own_value() const {
    return own_key() + static_cast<int64_t>(attention.kv_heads) * attention.head_dim;
  }
  // What the second launch keeps of them for the third.
  __device__ __nv_bfloat16* kept_own_key() const {
    return attention.scratch.own_rows +
           (static_cast<int64_t>(row) * attention.kv_heads + kv_head) * 2 * attention.head_dim;
  }
  __device__ const __nv_bfloat16* kept_own_value() const {
    return kept_own_key() + attention.head_dim;
  }
  __device__ const float* logits(int head) const {
    return attention.scratch.logits +
           (static_cast<int64_t>(row) * attention.query_heads + kv_head * group() + head) *
               (attention.slots + 1);
  }
};

// The probabilities of some keys, of all query heads together. A slot below 0 is no key. All loads
// of four heads come before the first is used: one after another they would take most of the
// kernel.
template <int kCount>
__device__ void ReducedProbabilities(const DecodeHead& head, const float* log2_sums,
                                     const int (&slots)[kCount], float (&reduced)[kCount]) {
  const int group = head.group();
#pragma unroll
  for (int i = 0; i < kCount; ++i) reduced[i] = 0.0f;
  for (int first = 0; first < group; first += 4) {
    float logits[4][kCount];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* row = head.logits(min(first + j, group - 1));
#pragma unroll
      for (int i = 0; i < kCount; ++i) logits[j][i] = slots[i] >= 0 ? row[slots[i]] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (first + j >= group) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float probability = Exp2(logits[j][i] - log2_sums[first + j]);
        reduced[i] = head.sequence.mean ? reduced[i] + probability : fmaxf(reduced[i], probability);
      }
    }
  }
  if (!head.sequence.mean) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) reduced[i] /= static_cast<float>(group);
}

__device__ inline float UpdatedScore(const DecodeHead& head, float score, float probability) {
  return static_cast<float>(head.sequence.decay * score + probability);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_HEAD_CUH_
