#include <cassert>

#include "kernels/cuda/common/rope.cuh"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/chunk_preparation.h"

namespace weir {
namespace {

constexpr int kThreads = 256;
constexpr int kLaneDims = 8;  // of a lane in each half of a vector, 16 bytes

// Lanes that share a vector, and vectors that a block handles at a time.
template <int kHeadDim>
constexpr int kVectorLanes = kHeadDim / 2 / kLaneDims;
template <int kHeadDim>
constexpr int kBlockVectors = kThreads / kVectorLanes<kHeadDim>;

// A lane's share of one rotation: cos and sin of kLaneDims pairs of dimensions.
struct LaneTurn {
  float cos[kLaneDims];
  float sin[kLaneDims];

  __device__ void Load(const DeviceRope& rope, int half, int rotation, int dim) {
    const int64_t at = static_cast<int64_t>(rotation) * half + dim;
#pragma unroll
    for (int i = 0; i < kLaneDims; i += 4) {
      *reinterpret_cast<float4*>(cos + i) = *reinterpret_cast<const float4*>(rope.cos + at + i);
      *reinterpret_cast<float4*>(sin + i) = *reinterpret_cast<const float4*>(rope.sin + at + i);
    }
  }
};

// A lane's dimensions of a vector, 8 of each half.
struct LaneVector {
  uint4 low, high;

  __device__ void Load(const __nv_bfloat16* from, int half, int dim) {
    low = *reinterpret_cast<const uint4*>(from + dim);
    high = *reinterpret_cast<const uint4*>(from + half + dim);
  }
  // Stores it turned forward (kSign 1) or back (-1). Returns the sum of squares as stored.
  template <int kSign>
  __device__ float StoreTurned(const LaneTurn& turn, __nv_bfloat16* to, int half, int dim) const {
    const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
    const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
    __nv_bfloat162 new_lows[4], new_highs[4];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 a = UnpackPair(reinterpret_cast<const __nv_bfloat16*>(&lows[i]));
      const float2 b = UnpackPair(reinterpret_cast<const __nv_bfloat16*>(&highs[i]));
      const float2 cos = {turn.cos[2 * i], turn.cos[2 * i + 1]};
      const float2 sin = {kSign * turn.sin[2 * i], kSign * turn.sin[2 * i + 1]};
      const float2 c = RoundPair(reinterpret_cast<__nv_bfloat16*>(&new_lows[i]),
                                 {a.x * cos.x - b.x * sin.x, a.y * cos.y - b.y * sin.y});
      const float2 d = RoundPair(reinterpret_cast<__nv_bfloat16*>(&new_highs[i]),
                                 {b.x * cos.x + a.x * sin.x, b.y * cos.y + a.y * sin.y});
      squares += c.x * c.x + c.y * c.y + d.x * d.x + d.y * d.y;
    }
    *reinterpret_cast<uint4*>(to + dim) = *reinterpret_cast<const uint4*>(new_lows);
    *reinterpret_cast<uint4*>(to + half + dim) = *reinterpret_cast<const uint4*>(new_highs);
    return squares;
  }
};

// The largest norm of a block's vectors; every lane knows the largest sum of squares of its own.
template <int kHeadDim>
__device__ void StoreLargestNorm(float largest_squares, float* norm) {
  __shared__ float largest[kThreads / 32];
  for (int distance = 16; distance >= kVectorLanes<kHeadDim>; distance /= 2) {
    largest_squares =
        fmaxf(largest_squares, __shfl_xor_sync(0xffffffff, largest_squares, distance));
  }
  __syncthreads();  // the norm before has been read
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = largest_squares;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / 32; ++warp) largest[0] = fmaxf(largest[0], largest[warp]);
  *norm = sqrtf(largest[0]);
}

// Over the lanes of a vector.
template <int kHeadDim>
__device__ float VectorSum(float value) {
  for (int distance = kVectorLanes<kHeadDim> / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffff, value, distance);
  }
  return value;
}

constexpr int kBlockHeads = 4;  // for which a block's rows share cos and sin

// One block: kNormTile rows of kBlockHeads heads, query heads first. Grid: (tiles, blocks of
// heads).
template <int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    RotateRowsKernel(const ChunkRows rows, const DeviceRope rope) {
  constexpr int kHalf = kHeadDim / 2;
  constexpr int kPasses = kNormTile / kBlockVectors<kHeadDim>;
  const int heads = rows.query_heads + rows.kv_heads;
  const int64_t rotated_stride = static_cast<int64_t>(heads) * kHeadDim;
  const int dim = threadIdx.x % kVectorLanes<kHeadDim> * kLaneDims;
  const int first_row = blockIdx.x * kNormTile + threadIdx.x / kVectorLanes<kHeadDim>;
  const int first_head = blockIdx.y * kBlockHeads;
  float largest[kBlockHeads] = {};
#pragma unroll 2
  for (int pass = 0; pass < kPasses; ++pass) {
    const int row = first_row + pass * kBlockVectors<kHeadDim>;
    const bool exists = row < rows.rows;
    LaneTurn turn;
    LaneVector vectors[kBlockHeads];
    if (exists) {
      turn.Load(rope, kHalf, row, dim);
#pragma unroll
      for (int i = 0; i < kBlockHeads; ++i) {
        if (first_head + i < heads) {
          vectors[i].Load(rows.qkv + row * rows.qkv_stride + (first_head + i) * kHeadDim, kHalf,
                          dim);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kBlockHeads; ++i) {
      float squares = 0.0f;
      if (exists && first_head + i < heads) {
        squares = vectors[i].template StoreTurned<1>(
            turn, rows.rotated + row * rotated_stride + (first_head + i) * kHeadDim, kHalf, dim);
      }
      largest[i] = fmaxf(largest[i], VectorSum<kHeadDim>(squares));
    }
  }
  for (int i = 0; i < kBlockHeads; ++i) {
    const int head = first_head + i;
    if (head < rows.query_heads || head >= heads) continue;
    StoreLargestNorm<kHeadDim>(largest[i],
                               rows.key_norms + (head - rows.query_heads) * gridDim.x + blockIdx.x);
  }
}

// One block: kNormTile slots of one KV head. Grid: (tiles, kv_heads).
template <int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    RotateCachedKeysKernel(const __grid_constant__ CachedKeys keys, const DeviceRope rope) {
  constexpr int kHalf = kHeadDim / 2;
  constexpr int kPasses = kNormTile / kBlockVectors<kHeadDim>;
  const int head = blockIdx.y;
  const int dim = threadIdx.x % kVectorLanes<kHeadDim> * kLaneDims;
  const int first_slot = blockIdx.x * kNormTile + threadIdx.x / kVectorLanes<kHeadDim>;
  LaneVector vectors[kPasses];
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int slot = first_slot + pass * kBlockVectors<kHeadDim>;
    if (slot < keys.cached) {
      vectors[pass].Load(
          keys.keys + head * keys.head_stride + static_cast<int64_t>(slot) * kHeadDim, kHalf, dim);
    }
  }
  LaneTurn turn;
  int turned_by = -1;
  float largest = 0.0f;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int slot = first_slot + pass * kBlockVectors<kHeadDim>;
    float squares = 0.0f;
    if (slot < keys.cached) {
      int segment = 0;
      while (slot < keys.segments[segment].first_slot ||
             slot >= keys.segments[segment].first_slot + keys.segments[segment].slot_count) {
        ++segment;
      }
      const int rotation = keys.segments[segment].query_rotation;
      if (rotation != turned_by) turn.Load(rope, kHalf, rotation, dim);
      turned_by = rotation;
      squares = vectors[pass].template StoreTurned<-1>(
          turn, keys.rotated + (static_cast<int64_t>(head) * keys.cached + slot) * kHeadDim, kHalf,
          dim);
    }
    largest = fmaxf(largest, VectorSum<kHeadDim>(squares));
  }
  StoreLargestNorm<kHeadDim>(largest, keys.key_norms + head * gridDim.x + blockIdx.x);
}

// One thread: one key of one KV head. Grid: (keys / threads, kv_heads).
__global__ void __launch_bounds__(kThreads) ScoreUpdateKernel(const ScoreUpdate update) {
  const int head = blockIdx.y;
  const int64_t keys = update.cached + update.rows;
  const int64_t key = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (key >= keys) return;
  const int group = update.query_heads / update.kv_heads;
  const unsigned long long* sums = update.column_sums + head * group * keys + key;
  unsigned long long reduced = sums[0];
  for (int i = 1; i < group; ++i) {
    const unsigned long long other = sums[i * keys];
    reduced = update.head_reduction == HeadReduction::kMean ? reduced + other : max(reduced, other);
  }
  double score = ldexp(static_cast<double>(reduced), -kColumnSumBits);
  if (update.head_reduction == HeadReduction::kMean) score /= group;
  if (key < update.cached) {
    float& slot = update.scores[head * update.slots + key];
    slot = static_cast<float>(update.decay * slot + score);
  } else {
    update.row_scores[head * update.row_score_stride + key - update.cached] =
        static_cast<float>(score);
  }
}

int Tiles(int count) { return (count + kNormTile - 1) / kNormTile; }

}  // namespace

cudaError_t LaunchRotateRows(const ChunkRows& rows, const DeviceRope& rope, cudaStream_t stream) {
  assert(rows.head_dim == 64 || rows.head_dim == 128);
  const int heads = rows.query_heads + rows.kv_heads;
  const dim3 grid(Tiles(rows.rows), (heads + kBlockHeads - 1) / kBlockHeads);
  const auto kernel = rows.head_dim == 64 ? RotateRowsKernel<64> : RotateRowsKernel<128>;
  kernel<<<grid, kThreads, 0, stream>>>(rows, rope);
  return cudaGetLastError();
}

cudaError_t LaunchRotateCachedKeys(const CachedKeys& keys, const DeviceRope& rope,
                                   cudaStream_t stream) {
  if (keys.cached == 0) return cudaSuccess;
  const dim3 grid(Tiles(keys.cached), keys.kv_heads);
  assert(keys.head_dim == 64 || keys.head_dim == 128);
  const auto kernel =
      keys.head_dim == 64 ? RotateCachedKeysKernel<64> : RotateCachedKeysKernel<128>;
  kernel<<<grid, kThreads, 0, stream>>>(keys, rope);
  return cudaGetLastError();
}

cudaError_t LaunchScoreUpdate(const ScoreUpdate& update, cudaStream_t stream) {
  const dim3 grid((update.cached + update.rows + kThreads - 1) / kThreads, update.kv_heads);
  ScoreUpdateKernel<<<grid, kThreads, 0, stream>>>(update);
  return cudaGetLastError();
}

}  // namespace weir
