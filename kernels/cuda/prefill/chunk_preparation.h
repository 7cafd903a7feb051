#ifndef WEIR_KERNELS_CUDA_PREFILL_CHUNK_PREPARATION_H_
#define WEIR_KERNELS_CUDA_PREFILL_CHUNK_PREPARATION_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/common/rope.h"
#include "kernels/sequence_step.h"

namespace weir {

// What comes before and after the attention of a chunk (chunk_attention.h): keys and queries
// rotated so that one query rotation serves all keys, and column sums made scores.

// One chunk's rows of one layer, and where they go.
struct ChunkRows {
  int rows;
  int query_heads;
  int kv_heads;
  int head_dim;              // 64 or 128
  const __nv_bfloat16* qkv;  // [rows][query_heads + 2 * kv_heads][head_dim]
  int64_t qkv_stride;        // elements between rows
  __nv_bfloat16* rotated;    // [rows][query_heads + kv_heads][head_dim] queries, keys by row index
  float* key_norms;          // [kv_heads][tiles of kNormTile rows]
};
cudaError_t LaunchRotateRows(const ChunkRows& rows, const DeviceRope& rope, cudaStream_t stream);

// One session's cached keys of one layer. A segment's keys are turned back by its query_rotation,
// after which they suit queries rotated by their row index.
struct CachedKeys {
  static constexpr int kMostSegments = 65;

  int cached;  // slots 0 .. cached - 1 are filled, each in one segment
  int kv_heads;
  int head_dim;               // 64 or 128
  const __nv_bfloat16* keys;  // [kv_heads][head_stride]
  int64_t head_stride;        // elements between heads
  __nv_bfloat16* rotated;     // [kv_heads][cached][head_dim]
  float* key_norms;           // [kv_heads][tiles of kNormTile slots]
  int segment_count;
  KeySegment segments[kMostSegments];
};
cudaError_t LaunchRotateCachedKeys(const CachedKeys& keys, const DeviceRope& rope,
                                   cudaStream_t stream);

// Column sums of the query heads of a KV head become one score a key: cached scores decay and grow
// by it, the chunk's own start with it.
struct ScoreUpdate {
  int rows;
  int cached;
  int query_heads;
  int kv_heads;
  HeadReduction head_reduction;
  double decay;                           // beta^rows
  const unsigned long long* column_sums;  // [query_heads][cached + rows], as of chunk_attention.h
  float* scores;                          // [kv_heads][slots]
  int64_t slots;
  float* row_scores;  // [kv_heads][row_score_stride]
  int64_t row_score_stride;
};
cudaError_t LaunchScoreUpdate(const ScoreUpdate& update, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_CHUNK_PREPARATION_H_
