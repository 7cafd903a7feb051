#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_RUNS_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_RUNS_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/decode/decode_attention.h"

namespace weir {

// A place in a sequence's keys, which lie in runs of slots; the last run is the token's own key.
struct KeyRun {
  const __nv_bfloat16* keys;
  const __nv_bfloat16* values;
  int count;
  int rotation;    // of the query for these keys
  int first_slot;  // where the run's logits go
};

// The runs of one KV head of a sequence.
template <int kHeadDim>
class KeyRuns {
 public:
  // `qkv`: the row of the sequence's token.
  __device__ KeyRuns(const DecodeAttention& attention, const DecodeSequence& sequence,
                     const __nv_bfloat16* qkv, int kv_head)
      : sequence_(sequence) {
    own_key_ = qkv + static_cast<int64_t>(attention.query_heads + kv_head) * kHeadDim;
    own_value_ = own_key_ + static_cast<int64_t>(attention.kv_heads) * kHeadDim;
    const int64_t cache_head =
        (static_cast<int64_t>(sequence.cache_slot) * attention.layers + attention.layer) *
            attention.kv_heads +
        kv_head;
    keys_ = attention.keys + cache_head * attention.slots * kHeadDim;
    values_ = attention.values + cache_head * attention.slots * kHeadDim;
  }

  // The last run: the token's own key, which is not in the cache.
  __device__ int own() const { return sequence_.segment_count; }
  __device__ KeyRun operator[](int index) const {
    if (index == own()) return {own_key_, own_value_, 1, 0, sequence_.cached};
    const KeySegment& segment = sequence_.segments[index];
    const int64_t offset = static_cast<int64_t>(segment.first_slot) * kHeadDim;
    return {keys_ + offset, values_ + offset, segment.slot_count, segment.query_rotation,
            segment.first_slot};
  }

 private:
  const DecodeSequence& sequence_;
  const __nv_bfloat16* own_key_;
  const __nv_bfloat16* own_value_;
  const __nv_bfloat16* keys_;
  const __nv_bfloat16* values_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_RUNS_CUH_
