#ifndef WEIR_KERNELS_CPU_ATTENTION_TASK_H_
#define WEIR_KERNELS_CPU_ATTENTION_TASK_H_

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_kv_storage.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/sequence_step.h"

namespace weir {

constexpr int RoundUpToTile(int count) {
  return (count + kTileLanes - 1) / kTileLanes * kTileLanes;
}

// First column and number of columns of a segment's tiles. The segment's keys are columns
// [first_slot % 16, first_slot % 16 + slot_count) of them.
inline int SegmentColumns(const KeySegment& segment) {
  return RoundUpToTile(segment.first_slot % kTileLanes + segment.slot_count);
}

// Attention of one sequence's rows over one KV head. Probabilities are kept by *column*: the tiles
// of every segment one after another, then the tiles of the step's own rows. Columns that hold no
// key of their segment count as masked.
struct AttentionTask {
  const SequenceStep* step;
  const RopeTable* rope;
  int head_dim;
  int group;         // query heads that share the KV head
  int value_stride;  // floats between values in the cache
  HeadSlots slots;
  int cached_columns;  // of all segments
  int columns;         // and of the step's own rows

  // By row of the step. queries: [group][head_dim] each.
  const float* queries;
  const float* keys;
  const float* values;
  int64_t qkv_stride;
  float* out;  // [group][head_dim] each
  int64_t out_stride;

  float* own_keys;           // tiles of 16 rows, [tile][head_dim][16]: keys rotated by their row
  const float* row_weights;  // [rows] beta^(rows - 1 - row)
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_ATTENTION_TASK_H_
