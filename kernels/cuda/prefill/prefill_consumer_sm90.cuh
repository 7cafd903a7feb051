#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_CONSUMER_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_CONSUMER_SM90_CUH_

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/prefill/column_sums.h"
#include "kernels/cuda/prefill/online_softmax.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"
#include "kernels/cuda/prefill/prefill_tiles_sm90.cuh"
#include "kernels/cuda/prefill/ring_position.h"
#include "kernels/cuda/prefill/shared_tile.h"
#include "kernels/cuda/prefill/wgmma.h"

namespace weir {

// One consumer warpgroup: the row block `group` of every item. For each tile of keys:
//     scores = queries * keys           tensor cores
//     probabilities                     softmax
//     output += probabilities * values  tensor cores, and column sums meanwhile
// At head_dim 128 the consumers enqueue their scores in turn. That keeps them a third of a step
// apart, so that one's softmax runs under the others' products; left alone they drift into step
// with one another. At 64 the exponentials are the bottleneck, and turns only cost.
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

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_CONSUMER_SM90_CUH_
