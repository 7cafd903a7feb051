#ifndef WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_H_
#define WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// Attention of one chunk of one sequence, all heads of a layer. Row r of the chunk attends to every
// cached key and to the chunk's own keys 0 .. r, one softmax over all of them. Queries and keys are
// rotated already, so the order of the cached keys does not matter. All pointers are device
// pointers, all strides count elements and are multiples of 8, all pointers are aligned to 16
// bytes.
struct ChunkAttention {
  int query_heads;
  int kv_heads;  // divides query_heads; query head h uses KV head h / (query_heads / kv_heads)
  int head_dim;  // 64 or 128
  int rows;      // of the chunk, at least 1
  int cached;    // keys in the cache, at least 0
  // Weight of row r in the column sums: 2^(log2_beta * (rows - 1 - r)).
  float log2_beta;

  // Element i of head h of row (or key) k: at [k * row_stride + h * head_stride + i].
  struct View {
    const __nv_bfloat16* data;
    int64_t row_stride;
    int64_t head_stride;
  };
  View queries;        // [rows][query_heads][head_dim]
  View cached_keys;    // [cached][kv_heads][head_dim]
  View cached_values;  // [cached][kv_heads][head_dim]
  View own_keys;       // [rows][kv_heads][head_dim]
  View own_values;     // [rows][kv_heads][head_dim]
  // [kv_heads][tiles of kNormTile keys, the last perhaps shorter] the largest Euclidean norm of the
  // tile's keys, to a percent or larger. Only the Hopper kernel reads them.
  const float* cached_key_norms;
  const float* own_key_norms;

  __nv_bfloat16* out;  // [rows][query_heads * head_dim], rows `out_stride` apart
  int64_t out_stride;
  // [query_heads][rows] log2 of the sum of exp(score) over all keys that a row sees.
  float* log2_normalizers;
  // [query_heads][cached + rows] fixed point: for every key the weighted sum over rows of its
  // probability is added, times 2^kColumnSumBits. Zeroed by the caller. Integers make the sum
  // independent of the order in which blocks add to it.
  unsigned long long* column_sums;
};

constexpr int kColumnSumBits = 36;
constexpr int kNormTile = 128;

// Column sums are exact: made in a second pass with the final normalisers.
// For any GPU of compute capability 8.0 or newer; simple rather than fast.
cudaError_t LaunchPortableChunkAttention(const ChunkAttention& attention, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_H_
