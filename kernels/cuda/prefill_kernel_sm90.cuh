#ifndef WEIR_KERNELS_CUDA_PREFILL_KERNEL_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_KERNEL_SM90_CUH_

// Attention of a chunk on Hopper: output, normalisers and column sums in one pass.
//
// A block has four warpgroups. The first gives most of its registers away and runs two loops in a
// warp each: one feeds queries, keys and values through the copy engine, the other adds finished
// column sums to device memory. The other three compute 64 rows each, a tile of keys at a time:
//     scores = queries * keys           tensor cores
//     probabilities                     softmax
//     output += probabilities * values  tensor cores, and column sums meanwhile
// At head_dim 128 they enqueue their scores in turn. That keeps them a third of a step apart, so
// that one's softmax runs under the others' products; left alone they drift into step with one
// another. At 64 the exponentials are the bottleneck, and turns only cost.
//
// The rows of the three may belong to different query heads of one KV head: keys and values are the
// same for all of them.
//
// A row's tiles are visited in this order: the chunk's own tile on the diagonal, the first cached
// tile (the sinks), the chunk's earlier tiles, the remaining cached tiles. The tiles with the
// largest probabilities come first; then the running normaliser, which weighs the column sums, is
// soon close to the final one.

#include "kernels/cuda/chunk_attention.h"
#include "kernels/cuda/chunk_attention_sm90.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/online_softmax.h"
#include "kernels/cuda/prefill_schedule.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/ring_position.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/wgmma.h"

namespace weir {

constexpr int kConsumerGroups = kItemRowBlocks;
constexpr int kConsumerWarps = kConsumerGroups * 4;
constexpr int kPrefillThreads = (kConsumerGroups + 1) * 128;

struct PrefillMaps {
  CUtensorMap queries, cached_keys, cached_values, own_keys, own_values;
};

struct PrefillArguments {
  int rows;
  int cached;
  int group;  // query heads of a KV head
  float log2_beta;
  float log2_scale;
  const float* cached_key_norms;
  const float* own_key_norms;
  __nv_bfloat16* out;
  int64_t out_stride;
  float* log2_normalizers;
  unsigned long long* column_sums;
  const PrefillItem* items;
  const int* first_item;
};

template <int kHeadDim>
struct PrefillShared {
  static constexpr int kStages = kHeadDim == 128 ? 2 : 4;
  static constexpr int kSumStages = 4;

  SharedTile<kBlockRows, kHeadDim> queries[kConsumerGroups];
  SharedTile<kKeyTile, kHeadDim> keys[kStages];
  SharedTile<kKeyTile, kHeadDim> values[kStages];
  float key_norms[kStages];
  float2 row_weights[kConsumerGroups][128];  // of the two rows of every consumer thread
  ColumnQuad sums[kSumStages][kConsumerWarps][32];
  uint64_t queries_full, queries_empty;
  uint64_t keys_full[kStages], keys_empty[kStages];
  uint64_t values_full[kStages], values_empty[kStages];
  uint64_t sums_full[kSumStages], sums_empty[kSumStages];
};

// 64 rows of one query head.
struct RowBlock {
  int first_row;
  int head;

  __device__ RowBlock(const PrefillArguments& arguments, PrefillItem item, int index)
      : first_row((item.first_row_block + index) / arguments.group * kBlockRows),
        head(item.kv_head * arguments.group + (item.first_row_block + index) % arguments.group) {}
};

// The tiles of keys of one item, in the order of visiting.
struct KeyTiles {
  int own;     // tiles of the chunk's keys, the diagonal included
  int cached;  // tiles of cached keys

  struct Tile {
    bool own;
    int first_key;
  };

  __device__ KeyTiles(const PrefillArguments& arguments, PrefillItem item)
      : cached((arguments.cached + kKeyTile - 1) / kKeyTile) {
    own = RowBlock(arguments, item, item.row_blocks - 1).first_row / kKeyTile + 1;
  }
  __device__ int count() const { return own + cached; }
  __device__ Tile operator[](int step) const {
    if (step == 0) return {true, (own - 1) * kKeyTile};
    if (cached == 0) return {true, (own - 1 - step) * kKeyTile};
    if (step == 1) return {false, 0};
    if (step <= own) return {true, (own - step) * kKeyTile};
    return {false, (step - own) * kKeyTile};
  }
};

template <int kHeadDim>
__device__ void FeedTiles(PrefillShared<kHeadDim>& shared, const PrefillMaps& maps,
                          const PrefillArguments& arguments) {
  using Shared = PrefillShared<kHeadDim>;
  constexpr int kQueryBytes = kConsumerGroups * SharedTile<kBlockRows, kHeadDim>::kBytes;
  constexpr int kBytes = SharedTile<kKeyTile, kHeadDim>::kBytes;
  RingPosition<1> query_position;
  RingPosition<Shared::kStages> key_position;
  RingPosition<Shared::kStages> value_position;
  const int end = arguments.first_item[blockIdx.x + 1];
  for (int i = arguments.first_item[blockIdx.x]; i < end; ++i) {
    const PrefillItem item = arguments.items[i];
    const KeyTiles tiles(arguments, item);
    const auto load_keys = [&](int step) {
      const auto [own, first_key] = tiles[step];
      uint64_t* full = &shared.keys_full[key_position.stage];
      const int tiles_of_head =
          ((own ? arguments.rows : arguments.cached) + kNormTile - 1) / kNormTile;
      const float* norms = own ? arguments.own_key_norms : arguments.cached_key_norms;
      const float norm = norms[item.kv_head * tiles_of_head + first_key / kNormTile];
      BarrierWait(&shared.keys_empty[key_position.stage], key_position.parity ^ 1);
      shared.key_norms[key_position.stage] = norm;
      BarrierArriveExpect(full, kBytes);
      shared.keys[key_position.stage].Load(own ? &maps.own_keys : &maps.cached_keys, full,
                                           first_key, item.kv_head);
      key_position.Advance();
    };
    const auto load_values = [&](int step) {
      const auto [own, first_key] = tiles[step];
      uint64_t* full = &shared.values_full[value_position.stage];
      BarrierWait(&shared.values_empty[value_position.stage], value_position.parity ^ 1);
      BarrierArriveExpect(full, kBytes);
      shared.values[value_position.stage].Load(own ? &maps.own_values : &maps.cached_values, full,
                                               first_key, item.kv_head);
      value_position.Advance();
    };

    BarrierWait(&shared.queries_empty, query_position.parity ^ 1);
    BarrierArriveExpect(&shared.queries_full, kQueryBytes);
    for (int group = 0; group < kConsumerGroups; ++group) {
      const RowBlock block(arguments, item, group);
      shared.queries[group].Load(&maps.queries, &shared.queries_full, block.first_row, block.head);
    }
    query_position.Advance();
    load_keys(0);
    for (int step = 0; step < tiles.count(); ++step) {
      if (step + 1 < tiles.count()) load_keys(step + 1);
      load_values(step);
    }
  }
}

// Adds each tile's column sums, of a consumer's four warps together, to device memory.
template <int kHeadDim>
__device__ void CollectColumnSums(PrefillShared<kHeadDim>& shared,
                                  const PrefillArguments& arguments) {
  const int lane = threadIdx.x % 32;
  const int columns[2] = {ColumnOfPair(lane, 0), ColumnOfPair(lane, 1)};
  const int64_t keys = arguments.cached + arguments.rows;
  RingPosition<PrefillShared<kHeadDim>::kSumStages> position;
  const int end = arguments.first_item[blockIdx.x + 1];
  for (int i = arguments.first_item[blockIdx.x]; i < end; ++i) {
    const PrefillItem item = arguments.items[i];
    const KeyTiles tiles(arguments, item);
    const int steps = tiles.count();
    int heads[kConsumerGroups];
#pragma unroll
    for (int group = 0; group < kConsumerGroups; ++group) {
      heads[group] = RowBlock(arguments, item, group).head;
    }
    for (int step = 0; step < steps; ++step) {
      const auto [own, first_key] = tiles[step];
      const int limit = (own ? arguments.rows : arguments.cached) - first_key;
      unsigned long long* first_column =
          arguments.column_sums + (own ? arguments.cached : 0) + first_key;
      BarrierWait(&shared.sums_full[position.stage], position.parity);
#pragma unroll
      for (int group = 0; group < kConsumerGroups; ++group) {
        if (group >= item.row_blocks) continue;
        float2 sums[2] = {};
#pragma unroll
        for (int warp = 0; warp < 4; ++warp) {
          const ColumnQuad quad = shared.sums[position.stage][group * 4 + warp][lane];
#pragma unroll
          for (int pair = 0; pair < 2; ++pair) {
            sums[pair].x += LowOfPair(quad.pairs[pair]);
            sums[pair].y += HighOfPair(quad.pairs[pair]);
          }
        }
        unsigned long long* to = first_column + heads[group] * keys;
        constexpr float kUnit = 1ull << kColumnSumBits;
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const int column = columns[pair];
          if (column < limit) AddToGlobal(to + column, __float2ull_rn(sums[pair].x * kUnit));
          if (column + 1 < limit) {
            AddToGlobal(to + column + 1, __float2ull_rn(sums[pair].y * kUnit));
          }
        }
      }
      BarrierArrive(&shared.sums_empty[position.stage]);
      position.Advance();
    }
  }
}

// One consumer warpgroup: the row block `group` of every item.
template <int kHeadDim, bool kColumnSums>
class PrefillConsumer {
  using Shared = PrefillShared<kHeadDim>;
  static constexpr bool kTurns = kHeadDim == 128;

 public:
  __device__ PrefillConsumer(Shared& shared, const PrefillArguments& arguments, int group)
      : shared_(shared),
        arguments_(arguments),
        group_(group),
        lane_(threadIdx.x % 32),
        line_(threadIdx.x / 32 % 4 * 16 + lane_ / 4),
        softmax_(arguments.log2_scale) {}

  __device__ void Run() {
    // The first turn is group 0's.
    if (group_ == kConsumerGroups - 1) EndTurn();
    const int end = arguments_.first_item[blockIdx.x + 1];
    for (int i = arguments_.first_item[blockIdx.x]; i < end; ++i) {
      const PrefillItem item = arguments_.items[i];
      const KeyTiles tiles(arguments_, item);
      if (group_ < item.row_blocks) {
        const RowBlock block(arguments_, item, group_);
        Attend(tiles, block.first_row);
        Store(block);
      } else {
        Pass(tiles.count());
      }
    }
    // The last turn of the last group is met too.
    if (group_ == 0) TakeTurn();
  }

 private:
  // Barrier 1 + g is where group g waits for the end of the turn before its own.
  __device__ void TakeTurn() {
    if constexpr (kTurns) NamedBarrierSync(1 + group_, 2 * 128);
  }
  __device__ void EndTurn() {
    if constexpr (kTurns) NamedBarrierArrive(1 + (group_ + 1) % kConsumerGroups, 2 * 128);
  }

  __device__ void Release(uint64_t* barrier) {
    __syncwarp();
    if (lane_ == 0) BarrierArrive(barrier);
  }

  // Keeps step with the other warpgroups through an item that has no rows for this one.
  __device__ void Pass(int steps) {
    BarrierWait(&shared_.queries_full, query_parity_);
    query_parity_ ^= 1;
    Release(&shared_.queries_empty);
    for (int step = 0; step < steps; ++step) {
      BarrierWait(&shared_.keys_full[position_.stage], position_.parity);
      TakeTurn();
      EndTurn();
      Release(&shared_.keys_empty[position_.stage]);
      BarrierWait(&shared_.values_full[position_.stage], position_.parity);
      Release(&shared_.values_empty[position_.stage]);
      position_.Advance();
      if constexpr (kColumnSums) {
        BarrierWait(&shared_.sums_empty[sum_position_.stage], sum_position_.parity ^ 1);
        BarrierArrive(&shared_.sums_full[sum_position_.stage]);
        sum_position_.Advance();
      }
    }
  }

  __device__ void Attend(const KeyTiles& tiles, int first_row) {
    softmax_.Start();
#pragma unroll
    for (float& value : output_) value = 0.0f;
    row_weights() = {RowWeight(first_row + line_), RowWeight(first_row + line_ + 8)};

    BarrierWait(&shared_.queries_full, query_parity_);
    const float query_norms[2] = {QueryNorm(line_), QueryNorm(line_ + 8)};
    const int steps = tiles.count();
    BarrierWait(&shared_.keys_full[position_.stage], position_.parity);
    for (int step = 0; step < steps; ++step) {
      TakeTurn();
      WgmmaFence();
      EnqueueScores();
      WgmmaCommit();
      EndTurn();
      if (step > 0) HandOverColumnSums();
      // Read by the lane that releases the stage, for the other lanes too.
      float key_norm = lane_ == 0 ? shared_.key_norms[position_.stage] : 0.0f;
      key_norm = __shfl_sync(0xffffffff, key_norm, 0);
      const float bounds[2] = {query_norms[0] * key_norm, query_norms[1] * key_norm};
      WgmmaWait<0>();
      Release(&shared_.keys_empty[position_.stage]);
      if (step + 1 == steps) Release(&shared_.queries_empty);

      // Tiles on the diagonal come among the first three.
      if (step < 3 || step + 1 == steps) Mask(tiles[step], first_row);
      if (softmax_.Apply(scores_, bounds)) {
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; ++i) output_[i] *= softmax_.decay(i / 2 % 2);
      }
#pragma unroll
      for (int i = 0; i < kKeyTile / 4; ++i) {
        probabilities_[i] = PackBFloat16(scores_[2 * i], scores_[2 * i + 1]);
      }

      uint64_t* values_empty = &shared_.values_empty[position_.stage];
      BarrierWait(&shared_.values_full[position_.stage], position_.parity);
      WgmmaFence();
      EnqueueOutput();
      WgmmaCommit();
      SumColumns();
      // This wait, a loop, also keeps the compiler from moving the sums past the wait below.
      position_.Advance();
      if (step + 1 < steps) BarrierWait(&shared_.keys_full[position_.stage], position_.parity);
      WgmmaWait<0>();
      Release(values_empty);
    }
    HandOverColumnSums();
    query_parity_ ^= 1;
  }

  __device__ float2& row_weights() { return shared_.row_weights[group_][threadIdx.x % 128]; }

  __device__ float RowWeight(int row) {
    const int later_rows = arguments_.rows - 1 - row;
    return later_rows < 0 ? 0.0f : Exp2(arguments_.log2_beta * later_rows);
  }

  // Norm of a query of the block, by the four lanes that share its accumulators.
  __device__ float QueryNorm(int line) {
    float sum = 0.0f;
    // The order of the dimensions in a row, which the swizzle changes, does not matter.
    for (const auto& panel : shared_.queries[group_].data) {
      const auto* chunks = reinterpret_cast<const uint4*>(panel[line]);
#pragma unroll
      for (int i = 0; i < kPanelDims / 8 / 4; ++i) {
        const uint4 chunk = chunks[lane_ % 4 * 2 + i];
        for (const uint32_t pair : {chunk.x, chunk.y, chunk.z, chunk.w}) {
          sum += LowOfPair(pair) * LowOfPair(pair) + HighOfPair(pair) * HighOfPair(pair);
        }
      }
    }
    return sqrtf(QuadSum(sum));
  }

  __device__ void EnqueueScores() {
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      WgmmaSharedShared<kKeyTile>::Run(scores_, DimensionsDeep(shared_.queries[group_], 0, step),
                                       DimensionsDeep(shared_.keys[position_.stage], 0, step),
                                       step > 0);
    }
  }

  __device__ void EnqueueOutput() {
#pragma unroll
    for (int step = 0; step < kKeyTile / 16; ++step) {
      WgmmaRegistersShared<kHeadDim>::Run(output_, &probabilities_[step * 4],
                                          RowsDeep(shared_.values[position_.stage], step));
    }
  }

  // Only the tiles on the diagonal and the cache's last have keys that some rows do not see.
  __device__ void Mask(KeyTiles::Tile tile, int first_row) {
    int visible[2];  // keys of the tile that the thread's rows see
    if (tile.own) {
      if (tile.first_key + kKeyTile - 1 <= first_row) return;
      visible[0] = first_row + line_ - tile.first_key + 1;
      visible[1] = visible[0] + 8;
    } else {
      visible[0] = visible[1] = arguments_.cached - tile.first_key;
      if (visible[0] >= kKeyTile) return;
    }
#pragma unroll
    for (int i = 0; i < kKeyTile / 2; ++i) {
      const int column = i / 4 * 8 + lane_ % 4 * 2 + i % 2;
      if (column >= visible[i / 2 % 2]) scores_[i] = -INFINITY;
    }
  }

  __device__ void SumColumns() {
    if constexpr (kColumnSums) {
      BarrierWait(&shared_.sums_empty[sum_position_.stage], sum_position_.parity ^ 1);
      // Read here, the weights keep the compiler from moving the sums in between the products.
      const float2 weights = LoadHere(&row_weights());
      column_sums_ = BeginColumnSums(probabilities_, WeightOverNormalizer(weights.x, 0),
                                     WeightOverNormalizer(weights.y, 1), lane_);
    }
  }

  __device__ float WeightOverNormalizer(float weight, int half) {
    const float normalizer = softmax_.normalizer(half);
    return normalizer > 0.0f ? __fdividef(weight, normalizer) : 0.0f;
  }

  __device__ void HandOverColumnSums() {
    if constexpr (kColumnSums) {
      shared_.sums[sum_position_.stage][group_ * 4 + threadIdx.x / 32 % 4][lane_] =
          FinishColumnSums(column_sums_, lane_);
      BarrierArrive(&shared_.sums_full[sum_position_.stage]);
      sum_position_.Advance();
    }
  }

  __device__ void Store(RowBlock block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = block.first_row + line_ + half * 8;
      if (row >= arguments_.rows) continue;
      const float scale = 1.0f / softmax_.normalizer(half);
      __nv_bfloat16* out =
          arguments_.out + row * arguments_.out_stride + block.head * kHeadDim + lane_ % 4 * 2;
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
        *reinterpret_cast<uint32_t*>(out + i * 8) =
            PackBFloat16(output_[i * 4 + half * 2] * scale, output_[i * 4 + half * 2 + 1] * scale);
      }
      if (lane_ % 4 == 0) {
        arguments_.log2_normalizers[static_cast<int64_t>(block.head) * arguments_.rows + row] =
            softmax_.log2_normalizer(half);
      }
    }
  }

  Shared& shared_;
  const PrefillArguments& arguments_;
  const int group_;
  const int lane_;
  const int line_;  // this thread's first row in the block of 64; the second is 8 later
  OnlineSoftmax softmax_;
  uint32_t query_parity_ = 0;
  RingPosition<Shared::kStages> position_;
  RingPosition<Shared::kSumStages> sum_position_;
  ColumnSumParts column_sums_;
  float scores_[kKeyTile / 2];
  uint32_t probabilities_[kKeyTile / 4];
  float output_[kHeadDim / 2];
};

template <int kHeadDim, bool kColumnSums>
__global__ void __launch_bounds__(kPrefillThreads, 1)
    PrefillKernel(const __grid_constant__ PrefillMaps maps,
                  const __grid_constant__ PrefillArguments arguments) {
  using Shared = PrefillShared<kHeadDim>;
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  // The same in all lanes, and the compiler knows.
  const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) {
    BarrierInit(&shared.queries_full, 1);
    BarrierInit(&shared.queries_empty, kConsumerWarps);
    for (int stage = 0; stage < Shared::kStages; ++stage) {
      BarrierInit(&shared.keys_full[stage], 1);
      BarrierInit(&shared.keys_empty[stage], kConsumerWarps);
      BarrierInit(&shared.values_full[stage], 1);
      BarrierInit(&shared.values_empty[stage], kConsumerWarps);
    }
    for (int stage = 0; stage < Shared::kSumStages; ++stage) {
      BarrierInit(&shared.sums_full[stage], kConsumerWarps * 32);
      BarrierInit(&shared.sums_empty[stage], 32);
    }
    BarrierInitFence();
  }
  __syncthreads();

  if (warp < 4) {
    DecreaseRegisters<32>();
    if (warp == 0) {
      if (threadIdx.x == 0) FeedTiles(shared, maps, arguments);
    } else if (kColumnSums && warp == 1) {
      CollectColumnSums(shared, arguments);
    }
  } else {
    IncreaseRegisters<160>();
    PrefillConsumer<kHeadDim, kColumnSums>(shared, arguments, warp / 4 - 1).Run();
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_KERNEL_SM90_CUH_
