#include "kernels/cuda/chunk_attention.h"
#include "kernels/cuda/chunk_preparation.h"
#include "kernels/cuda/rope.cuh"

namespace weir {
namespace {

constexpr int kWarps = 8;

// The largest norm of a tile's keys, from every warp's largest.
__device__ void StoreLargestNorm(float warp_largest, float* norm) {
  __shared__ float largest[kWarps];
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = warp_largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kWarps; ++warp) largest[0] = fmaxf(largest[0], largest[warp]);
  *norm = largest[0];
}

__device__ float WarpSum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffff, value, distance);
  }
  return value;
}

// One warp: one vector. Returns its norm as stored. `turn(i)` is the rotation of dimensions i, i
// + 1.
template <typename TurnAt>
__device__ float RotateVector(const __nv_bfloat16* from, __nv_bfloat16* to, int head_dim,
                              TurnAt turn) {
  const int half = head_dim / 2;
  float squares = 0.0f;
  for (int i = threadIdx.x % 32 * 2; i < half; i += 64) {
    squares += RotatePairs(from, to, half, i, turn(i));
  }
  return sqrtf(WarpSum(squares));
}

// One block: kNormTile rows of one head, query heads first. Grid: (tiles, query_heads + kv_heads).
__global__ void __launch_bounds__(kWarps * 32)
    RotateRowsKernel(const ChunkRows rows, const DeviceRope rope) {
  const int head = blockIdx.y;
  const int half = rows.head_dim / 2;
  const int64_t rotated_stride =
      static_cast<int64_t>(rows.query_heads + rows.kv_heads) * rows.head_dim;
  const int64_t offset = static_cast<int64_t>(head) * rows.head_dim;
  const int first_row = blockIdx.x * kNormTile;
  const int end_row = min(first_row + kNormTile, rows.rows);
  float largest = 0.0f;
  for (int row = first_row + threadIdx.x / 32; row < end_row; row += kWarps) {
    const float norm = RotateVector(rows.qkv + row * rows.qkv_stride + offset,
                                    rows.rotated + row * rotated_stride + offset, rows.head_dim,
                                    [&](int i) { return TurnBy(rope, half, row, i); });
    largest = fmaxf(largest, norm);
  }
  if (head < rows.query_heads) return;
  StoreLargestNorm(largest, rows.key_norms + (head - rows.query_heads) * gridDim.x + blockIdx.x);
}

// One block: kNormTile slots of one KV head. Grid: (tiles, kv_heads).
__global__ void __launch_bounds__(kWarps * 32)
    RotateCachedKeysKernel(const __grid_constant__ CachedKeys keys, const DeviceRope rope) {
  const int head = blockIdx.y;
  const int half = keys.head_dim / 2;
  const int first_slot = blockIdx.x * kNormTile;
  const int end_slot = min(first_slot + kNormTile, keys.cached);
  float largest = 0.0f;
  for (int slot = first_slot + threadIdx.x / 32; slot < end_slot; slot += kWarps) {
    int segment = 0;
    while (slot < keys.segments[segment].first_slot ||
           slot >= keys.segments[segment].first_slot + keys.segments[segment].slot_count) {
      ++segment;
    }
    const int rotation = keys.segments[segment].query_rotation;
    const float norm = RotateVector(
        keys.keys + head * keys.head_stride + static_cast<int64_t>(slot) * keys.head_dim,
        keys.rotated + (static_cast<int64_t>(head) * keys.cached + slot) * keys.head_dim,
        keys.head_dim, [&](int i) { return TurnBackBy(rope, half, rotation, i); });
    largest = fmaxf(largest, norm);
  }
  StoreLargestNorm(largest, keys.key_norms + head * gridDim.x + blockIdx.x);
}

// One thread: one key of one KV head. Grid: (keys / threads, kv_heads).
__global__ void __launch_bounds__(256) ScoreUpdateKernel(const ScoreUpdate update) {
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
  const dim3 grid(Tiles(rows.rows), rows.query_heads + rows.kv_heads);
  RotateRowsKernel<<<grid, kWarps * 32, 0, stream>>>(rows, rope);
  return cudaGetLastError();
}

cudaError_t LaunchRotateCachedKeys(const CachedKeys& keys, const DeviceRope& rope,
                                   cudaStream_t stream) {
  if (keys.cached == 0) return cudaSuccess;
  const dim3 grid(Tiles(keys.cached), keys.kv_heads);
  RotateCachedKeysKernel<<<grid, kWarps * 32, 0, stream>>>(keys, rope);
  return cudaGetLastError();
}

cudaError_t LaunchScoreUpdate(const ScoreUpdate& update, cudaStream_t stream) {
  constexpr int kThreads = 256;
  const dim3 grid((update.cached + update.rows + kThreads - 1) / kThreads, update.kv_heads);
  ScoreUpdateKernel<<<grid, kThreads, 0, stream>>>(update);
  return cudaGetLastError();
}

}  // namespace weir
