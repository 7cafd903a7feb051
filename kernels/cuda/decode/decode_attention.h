#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ATTENTION_H_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ATTENTION_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/common/rope.h"
#include "kernels/sequence_step.h"

namespace weir {

// One token of one session in a decode step, as the kernels read it from device memory. Plain
// data; it follows from a SequenceStep of one row, and is the same for all layers and heads.
struct DecodeSequence {
  static constexpr int kMostRings = 32;
  static constexpr int kMostSegments = 1 + 2 * kMostRings;

  // Slots count through the session's, as in KeySegment.
  struct Ring {
    int oldest, newest;  // slots of entries; -1 in a ring that has none
    int next;            // where a new entry goes
    bool arrives;        // the ring has an arrival,
    bool accepts;        // which becomes a new entry; else it challenges the newest one
  };

  int active;  // 0: the row belongs to nobody; only cache_slot may mean something
  int mean;    // HeadReduction::kMean
  int cache_slot;
  int cached;  // slots 0 .. cached - 1 are filled, each in one segment
  int segment_count;
  int ring_count;
  int sinks;
  int ring_slots;
  int sink_slot;  // where the token goes while the sinks fill; else -1, and ring 0 takes it
  int64_t token;  // stream index
  double decay;   // beta
  KeySegment segments[kMostSegments];
  Ring rings[kMostRings];
};
// `sequence` has one row, or none: then only its session is named.
DecodeSequence PackDecode(const SequenceStep& sequence);

// What attention of a decode step needs besides. One for all layers, used by one at a time.
struct DecodeScratch {
  float* logits;              // [sequences][query_heads][slots + 1] base 2
  float* partial_outputs;     // [sequences][kv_heads][Splits][group][head_dim]
  float2* partial_softmaxes;  // [sequences][kv_heads][Splits][group] maximum, sum
  __nv_bfloat16* own_rows;    // [sequences][kv_heads][2][head_dim] the token's own key and value
};

// Attention of one token of every session over its cache and itself, the scores that follow, and
// its admission to the cache, in one layer. Three launches: the first splits the keys over blocks,
// the second puts their results together, the third updates scores and moves what the admission
// moves. Sessions share nothing, and how the keys are split depends on the number of keys alone: a
// session's results are the same bits whatever other sessions there are.
//
// For any GPU of compute capability 8.0 or newer. The first two take part in dependent launches.
struct DecodeAttention {
  int sequences;  // rows; sequence i is row i
  int query_heads;
  int kv_heads;  // divides query_heads
  int head_dim;  // 64 or 128
  int layer;
  int layers;
  int slots;                       // of a session
  const DecodeSequence* sequence;  // [sequences]
  const __nv_bfloat16* qkv;  // [sequences][(query_heads + 2 * kv_heads) * head_dim] not rotated
  int64_t qkv_stride;        // elements between rows
  __nv_bfloat16* out;        // [sequences][query_heads * head_dim]
  int64_t out_stride;        // elements between rows
  // All sessions' caches, [cache slots][layers][kv_heads][slots] of each.
  __nv_bfloat16* keys;    // ... [head_dim] rotated by the slot's index in its ring
  __nv_bfloat16* values;  // ... [head_dim]
  float* scores;
  int64_t* tokens;
  unsigned long long* swaps;  // [kMostRings] challenges won are added
  DeviceRope rope;
  DecodeScratch scratch;

  static constexpr int kMostGroup = 32;  // query heads of a KV head

  static constexpr int kKeysPerSplit = 512;
  // Blocks that share the keys of one head, for caches of this many slots.
  static constexpr int Splits(int slots) { return (slots + kKeysPerSplit) / kKeysPerSplit; }
};
// The first two.
cudaError_t LaunchDecodeAttention(const DecodeAttention& attention, cudaStream_t stream);
// The third. It reads the scratch and the step, and reads and writes the cache and `swaps`: it may
// run beside whatever leaves these alone.
cudaError_t LaunchDecodeAdmission(const DecodeAttention& attention, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ATTENTION_H_
