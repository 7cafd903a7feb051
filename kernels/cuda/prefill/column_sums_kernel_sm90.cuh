#ifndef WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_KERNEL_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_KERNEL_SM90_CUH_

// Exact column sums on Hopper: a second pass over queries and keys that knows the normalisers.
//
// A block keeps 128 keys of one KV head in shared memory and visits the queries of all its query
// heads, 128 rows at a time. It multiplies the other way round, keys times queries: then an
// accumulator's row is a key, and the sum over queries is mostly within a thread. Nobody else adds
// to these sums.
//
// Two warpgroups take 64 keys each; one warp feeds keys and queries, one the queries' offsets. Two
// blocks share a multiprocessor, so that one's exponentials run under the other's products.

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/online_softmax.h"
#include "kernels/cuda/prefill/ring_position.h"
#include "kernels/cuda/prefill/shared_tile.h"
#include "kernels/cuda/prefill/wgmma.h"

namespace weir {

constexpr int kColumnTile = 128;  // keys of a block, and rows at a time
constexpr int kColumnConsumers = 2;
constexpr int kColumnThreads = kColumnConsumers * 128 + 64;

struct ColumnMaps {
  CUtensorMap queries, cached_keys, own_keys;
};

struct ColumnArguments {
  int rows;
  int cached;
  int group;  // query heads of a KV head
  float log2_beta;
  float log2_scale;
  const float* log2_normalizers;
  unsigned long long* column_sums;
};

template <int kHeadDim>
struct ColumnShared {
  static constexpr int kStages = 2;

  SharedTile<kColumnTile, kHeadDim> keys;
  SharedTile<kColumnTile, kHeadDim> queries[kStages];
  // A probability times its row's weight is 2^(scale * score - offset).
  float offsets[kStages][kColumnTile];
  uint64_t keys_full;
  uint64_t queries_full[kStages], queries_empty[kStages];
};

// The keys of a block, and which rows see them.
struct ColumnBlock {
  bool own;
  int first_key;
  int first_tile;  // of the rows that see any of these keys
  int tiles;       // of rows

  __device__ explicit ColumnBlock(const ColumnArguments& arguments) {
    const int cached_tiles = (arguments.cached + kColumnTile - 1) / kColumnTile;
    const int tile = blockIdx.x;
    own = tile >= cached_tiles;
    first_key = (own ? tile - cached_tiles : tile) * kColumnTile;
    first_tile = own ? tile - cached_tiles : 0;
    tiles = (arguments.rows + kColumnTile - 1) / kColumnTile;
  }
};

template <int kHeadDim>
__device__ void FeedQueries(ColumnShared<kHeadDim>& shared, const ColumnMaps& maps,
                            const ColumnArguments& arguments, const ColumnBlock& block) {
  constexpr int kBytes = SharedTile<kColumnTile, kHeadDim>::kBytes;
  const int kv_head = blockIdx.y;
  BarrierArriveExpect(&shared.keys_full, kBytes);
  shared.keys.Load(block.own ? &maps.own_keys : &maps.cached_keys, &shared.keys_full,
                   block.first_key, kv_head);
  RingPosition<ColumnShared<kHeadDim>::kStages> position;
  for (int head = 0; head < arguments.group; ++head) {
    for (int tile = block.first_tile; tile < block.tiles; ++tile) {
      uint64_t* full = &shared.queries_full[position.stage];
      BarrierWait(&shared.queries_empty[position.stage], position.parity ^ 1);
      BarrierArriveExpect(full, kBytes);
      shared.queries[position.stage].Load(&maps.queries, full, tile * kColumnTile,
                                          kv_head * arguments.group + head);
      position.Advance();
    }
  }
}

template <int kHeadDim>
__device__ void FeedOffsets(ColumnShared<kHeadDim>& shared, const ColumnArguments& arguments,
                            const ColumnBlock& block) {
  const int lane = threadIdx.x % 32;
  RingPosition<ColumnShared<kHeadDim>::kStages> position;
  for (int head = 0; head < arguments.group; ++head) {
    const float* log2_normalizers =
        arguments.log2_normalizers +
        static_cast<int64_t>(blockIdx.y * arguments.group + head) * arguments.rows;
    for (int tile = block.first_tile; tile < block.tiles; ++tile) {
      float offsets[kColumnTile / 32];
#pragma unroll
      for (int i = 0; i < kColumnTile / 32; ++i) {
        const int row = tile * kColumnTile + i * 32 + lane;
        offsets[i] = row < arguments.rows
                         ? log2_normalizers[row] - arguments.log2_beta * (arguments.rows - 1 - row)
                         : INFINITY;
      }
      BarrierWait(&shared.queries_empty[position.stage], position.parity ^ 1);
#pragma unroll
      for (int i = 0; i < kColumnTile / 32; ++i) {
        shared.offsets[position.stage][i * 32 + lane] = offsets[i];
      }
      BarrierArrive(&shared.queries_full[position.stage]);
      position.Advance();
    }
  }
}

// Keys [64 * consumer, + 64) of the block.
template <int kHeadDim>
__device__ void SumOverRows(ColumnShared<kHeadDim>& shared, const ColumnArguments& arguments,
                            const ColumnBlock& block, int consumer) {
  const int lane = threadIdx.x % 32;
  const int first_key = block.first_key + consumer * 64 + threadIdx.x / 32 % 4 * 16 + lane / 4;
  const int64_t keys = arguments.cached + arguments.rows;
  RingPosition<ColumnShared<kHeadDim>::kStages> position;
  BarrierWait(&shared.keys_full, 0);
  for (int head = 0; head < arguments.group; ++head) {
    float sums[2][2] = {};
    for (int tile = block.first_tile; tile < block.tiles; ++tile) {
      float scores[kColumnTile / 2];
      BarrierWait(&shared.queries_full[position.stage], position.parity);
      WgmmaFence();
#pragma unroll
      for (int step = 0; step < kHeadDim / 16; ++step) {
        WgmmaSharedShared<kColumnTile>::Run(
            scores, DimensionsDeep(shared.keys, consumer * 64, step),
            DimensionsDeep(shared.queries[position.stage], 0, step), step > 0);
      }
      WgmmaCommit();
      WgmmaWait<0>();
      if (block.own && tile == block.first_tile) {
#pragma unroll
        for (int i = 0; i < kColumnTile / 2; ++i) {
          const int row = tile * kColumnTile + i / 4 * 8 + lane % 4 * 2 + i % 2;
          if (row < first_key + i / 2 % 2 * 8) scores[i] = -INFINITY;
        }
      }
#pragma unroll
      for (int column = 0; column < kColumnTile; column += 8) {
        const int of_lane = column + lane % 4 * 2;
        const float2 offsets =
            reinterpret_cast<const float2&>(shared.offsets[position.stage][of_lane]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sums[i / 2][i % 2] += Exp2(fmaf(scores[column / 2 + i], arguments.log2_scale,
                                          -(i % 2 == 0 ? offsets.x : offsets.y)));
        }
      }
      BarrierArrive(&shared.queries_empty[position.stage]);
      position.Advance();
    }
    unsigned long long* to = arguments.column_sums + (blockIdx.y * arguments.group + head) * keys +
                             (block.own ? arguments.cached : 0);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = QuadSum(sums[half][0] + sums[half][1]);
      const int key = first_key + half * 8;
      if (lane % 4 == 0 && key < (block.own ? arguments.rows : arguments.cached)) {
        to[key] += __float2ull_rn(sum * (1ull << kColumnSumBits));
      }
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kColumnThreads, 2)
    ColumnSumsKernel(const __grid_constant__ ColumnMaps maps,
                     const __grid_constant__ ColumnArguments arguments) {
  using Shared = ColumnShared<kHeadDim>;
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  // The same in all lanes, and the compiler knows.
  const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
  const ColumnBlock block(arguments);
  if (threadIdx.x == 0) {
    BarrierInit(&shared.keys_full, 1);
    for (int stage = 0; stage < Shared::kStages; ++stage) {
      BarrierInit(&shared.queries_full[stage], 1 + 32);  // the queries and their offsets
      BarrierInit(&shared.queries_empty[stage], kColumnConsumers * 128);
    }
    BarrierInitFence();
  }
  __syncthreads();
  if (warp < kColumnConsumers * 4) {
    SumOverRows(shared, arguments, block, warp / 4);
  } else if (warp > kColumnConsumers * 4) {
    FeedOffsets(shared, arguments, block);
  } else if (threadIdx.x % 32 == 0) {
    FeedQueries(shared, maps, arguments, block);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_KERNEL_SM90_CUH_
