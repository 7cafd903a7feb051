// Attention of a chunk without special hardware: the reference that faster kernels are compared
// with on the device, and the fallback for cards they do not run on.

#include <cassert>
#include <cmath>

#include "kernels/cuda/prefill/chunk_attention.h"

namespace weir {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 32;  // rows of a block, and keys at a time

// Key `key` of KV head `head`, cached keys first, then the chunk's own; the same for values.
struct KeysAndValues {
  const ChunkAttention& attention;

  __device__ const __nv_bfloat16* Find(const ChunkAttention::View& cached,
                                       const ChunkAttention::View& own, int key, int head) const {
    return key < attention.cached
               ? cached.data + key * cached.row_stride + head * cached.head_stride
               : own.data + (key - attention.cached) * own.row_stride + head * own.head_stride;
  }
  __device__ const __nv_bfloat16* Key(int key, int head) const {
    return Find(attention.cached_keys, attention.own_keys, key, head);
  }
  __device__ const __nv_bfloat16* Value(int key, int head) const {
    return Find(attention.cached_values, attention.own_values, key, head);
  }
};

// to[line][i] = source(line)[i]; lines past `count` are zero.
template <int kHeadDim, typename Source>
__device__ void LoadTile(float (*to)[kHeadDim + 1], int count, Source source) {
  for (int i = threadIdx.x; i < kTile * kHeadDim; i += kThreads) {
    const int line = i / kHeadDim;
    to[line][i % kHeadDim] = line < count ? __bfloat162float(source(line)[i % kHeadDim]) : 0.0f;
  }
}

// Four threads share a row: thread t of them takes keys t, t + 4, ... and dimensions t, t + 4, ...
__device__ float QuadMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffff, value, 2));
}
__device__ float QuadSum(float value) {
  value += __shfl_xor_sync(0xffffffff, value, 1);
  return value + __shfl_xor_sync(0xffffffff, value, 2);
}

template <int kHeadDim>
struct Tiles {
  float queries[kTile][kHeadDim + 1];
  float keys[kTile][kHeadDim + 1];  // later the same keys' values
  float probabilities[kTile][kTile + 1];
};

template <int kHeadDim>
__device__ float Dot(const float* a, const float* b) {
  float sum = 0.0f;
#pragma unroll 16
  for (int i = 0; i < kHeadDim; ++i) sum += a[i] * b[i];
  return sum;
}

// One block: kTile rows of one query head. Grid: (tiles of rows, query heads).
template <int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    PortableAttentionKernel(const ChunkAttention attention, float log2_scale) {
  extern __shared__ float shared[];
  auto& tiles = *reinterpret_cast<Tiles<kHeadDim>*>(shared);
  const KeysAndValues source{attention};
  const int head = blockIdx.y;
  const int kv_head = head / (attention.query_heads / attention.kv_heads);
  const int first_row = blockIdx.x * kTile;
  const int line = threadIdx.x / 4;
  const int quarter = threadIdx.x % 4;
  const int row = first_row + line;

  LoadTile<kHeadDim>(tiles.queries, attention.rows - first_row, [&](int i) {
    return attention.queries.data + (first_row + i) * attention.queries.row_stride +
           head * attention.queries.head_stride;
  });
  float largest = -INFINITY;
  float normalizer = 0.0f;
  float result[kHeadDim / 4] = {};
  const int keys = attention.cached + min(first_row + kTile, attention.rows);
  for (int first_key = 0; first_key < keys; first_key += kTile) {
    __syncthreads();
    LoadTile<kHeadDim>(tiles.keys, keys - first_key,
                       [&](int i) { return source.Key(first_key + i, kv_head); });
    __syncthreads();
    float scores[kTile / 4];
    float tile_largest = -INFINITY;
    for (int i = 0; i < kTile / 4; ++i) {
      const int key = first_key + i * 4 + quarter;
      const bool seen = key < keys && key <= attention.cached + row;
      scores[i] = seen
                      ? log2_scale * Dot<kHeadDim>(tiles.queries[line], tiles.keys[i * 4 + quarter])
                      : -INFINITY;
      tile_largest = fmaxf(tile_largest, scores[i]);
    }
    const float before = largest;
    largest = fmaxf(largest, QuadMax(tile_largest));
    // The first tile of a row with no cached key may hold nothing that it sees only if the row is
    // past the chunk's end.
    const float reference = largest == -INFINITY ? 0.0f : largest;
    const float decay = exp2f(before - reference);
    float sum = 0.0f;
    for (int i = 0; i < kTile / 4; ++i) {
      const float probability = exp2f(scores[i] - reference);
      tiles.probabilities[line][i * 4 + quarter] = probability;
      sum += probability;
    }
    normalizer = normalizer * decay + QuadSum(sum);
    __syncthreads();
    LoadTile<kHeadDim>(tiles.keys, keys - first_key,
                       [&](int i) { return source.Value(first_key + i, kv_head); });
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kHeadDim / 4; ++i) {
      float value = result[i] * decay;
#pragma unroll 8
      for (int key = 0; key < kTile; ++key) {
        value += tiles.probabilities[line][key] * tiles.keys[key][i * 4 + quarter];
      }
      result[i] = value;
    }
  }
  if (row >= attention.rows) return;
  __nv_bfloat16* out = attention.out + row * attention.out_stride + head * kHeadDim;
#pragma unroll
  for (int i = 0; i < kHeadDim / 4; ++i) {
    out[i * 4 + quarter] = __float2bfloat16(result[i] / normalizer);
  }
  if (quarter == 0) {
    attention.log2_normalizers[static_cast<int64_t>(head) * attention.rows + row] =
        largest + log2f(normalizer);
  }
}

// One block: the column sums of kTile keys for one query head. Grid: (tiles of keys, query heads).
template <int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    PortableColumnSumsKernel(const ChunkAttention attention, float log2_scale) {
  extern __shared__ float shared[];
  auto& tiles = *reinterpret_cast<Tiles<kHeadDim>*>(shared);
  const KeysAndValues source{attention};
  const int head = blockIdx.y;
  const int kv_head = head / (attention.query_heads / attention.kv_heads);
  const int first_key = blockIdx.x * kTile;
  const int keys = attention.cached + attention.rows;
  const int line = threadIdx.x / 4;  // of the tile of keys
  const int quarter = threadIdx.x % 4;
  const int key = first_key + line;

  LoadTile<kHeadDim>(tiles.keys, keys - first_key,
                     [&](int i) { return source.Key(first_key + i, kv_head); });
  float sum = 0.0f;
  const int first_row = max(0, first_key - attention.cached) / kTile * kTile;
  for (int tile_row = first_row; tile_row < attention.rows; tile_row += kTile) {
    __syncthreads();
    LoadTile<kHeadDim>(tiles.queries, attention.rows - tile_row, [&](int i) {
      return attention.queries.data + (tile_row + i) * attention.queries.row_stride +
             head * attention.queries.head_stride;
    });
    __syncthreads();
    for (int i = 0; i < kTile / 4; ++i) {
      const int row = tile_row + i * 4 + quarter;
      if (row >= attention.rows || key > attention.cached + row) continue;
      const int later_rows = attention.rows - 1 - row;
      // A decay of 0 makes the logarithm -infinity, and 0 times infinity is no number.
      const float log2_weight = later_rows == 0 ? 0.0f : attention.log2_beta * later_rows;
      const float log2_normalizer =
          attention.log2_normalizers[static_cast<int64_t>(head) * attention.rows + row];
      sum += exp2f(log2_scale * Dot<kHeadDim>(tiles.queries[i * 4 + quarter], tiles.keys[line]) -
                   log2_normalizer + log2_weight);
    }
  }
  sum = QuadSum(sum);
  if (quarter != 0 || key >= keys) return;
  attention.column_sums[static_cast<int64_t>(head) * keys + key] +=
      __float2ull_rn(ldexpf(sum, kColumnSumBits));
}

template <int kHeadDim>
cudaError_t Launch(const ChunkAttention& attention, cudaStream_t stream) {
  constexpr int kBytes = sizeof(Tiles<kHeadDim>);
  const auto tiles = [](int count) { return static_cast<unsigned>((count + kTile - 1) / kTile); };
  const float log2_scale = static_cast<float>(M_LOG2E / std::sqrt(static_cast<double>(kHeadDim)));
  const auto heads = static_cast<unsigned>(attention.query_heads);
  for (const auto kernel :
       {PortableAttentionKernel<kHeadDim>, PortableColumnSumsKernel<kHeadDim>}) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
  }
  PortableAttentionKernel<kHeadDim>
      <<<dim3(tiles(attention.rows), heads), kThreads, kBytes, stream>>>(attention, log2_scale);
  PortableColumnSumsKernel<kHeadDim>
      <<<dim3(tiles(attention.cached + attention.rows), heads), kThreads, kBytes, stream>>>(
          attention, log2_scale);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchPortableChunkAttention(const ChunkAttention& attention, cudaStream_t stream) {
  assert(attention.head_dim == 64 || attention.head_dim == 128);
  return attention.head_dim == 64 ? Launch<64>(attention, stream) : Launch<128>(attention, stream);
}

}  // namespace weir
