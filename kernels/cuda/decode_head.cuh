#ifndef WEIR_KERNELS_CUDA_DECODE_HEAD_CUH_
#define WEIR_KERNELS_CUDA_DECODE_HEAD_CUH_

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/ptx.h"

namespace weir {

constexpr int kFinishThreads = 256;
constexpr int kFinishWarps = kFinishThreads / 32;
constexpr int kMostGroup = 32;  // query heads of a KV head

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
  __device__ int splits() const {
    return (sequence.cached + DecodeAttention::kKeysPerSplit) / DecodeAttention::kKeysPerSplit;
  }
  // Of the splits' results.
  __device__ int64_t first_result() const {
    return (static_cast<int64_t>(row) * attention.kv_heads + kv_head) *
           DecodeAttention::Splits(attention.slots) * group();
  }
  __device__ const float* logits(int head) const {
    return attention.logits +
           (static_cast<int64_t>(row) * attention.query_heads + kv_head * group() + head) *
               (attention.slots + 1);
  }
};

// The probability of a key, of all query heads together. Loads come four at a time: one after
// another they would take most of the kernel.
__device__ inline float ReducedProbability(const DecodeHead& head, const float* log2_sums,
                                           int slot) {
  const int group = head.group();
  float reduced = 0.0f;
  for (int first = 0; first < group; first += 4) {
    float logits[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i < group) logits[i] = head.logits(first + i)[slot];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i >= group) continue;
      const float probability = Exp2(logits[i] - log2_sums[first + i]);
      reduced = head.sequence.mean ? reduced + probability : fmaxf(reduced, probability);
    }
  }
  return head.sequence.mean ? reduced / static_cast<float>(group) : reduced;
}

__device__ inline float UpdatedScore(const DecodeHead& head, float score, float probability) {
  return static_cast<float>(head.sequence.decay * score + probability);
}

// A ring's newest and oldest slots, counted through the session's.
__device__ inline int NewestSlot(const DecodeSequence& sequence, int ring) {
  const DecodeSequence::Ring& counters = sequence.rings[ring];
  return sequence.sinks + ring * sequence.ring_slots +
         (counters.head + counters.size + sequence.ring_slots - 1) % sequence.ring_slots;
}
__device__ inline int OldestSlot(const DecodeSequence& sequence, int ring) {
  return sequence.sinks + ring * sequence.ring_slots + sequence.rings[ring].head;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_HEAD_CUH_
