#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_COLLECTOR_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_COLLECTOR_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/column_sums.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"
#include "kernels/cuda/prefill/prefill_tiles_sm90.cuh"
#include "kernels/cuda/prefill/ring_position.h"

namespace weir {

// The collector of a block of the prefill kernel: a warp that adds each tile's column sums, of a
// consumer's four warps together, to device memory.
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

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_COLLECTOR_SM90_CUH_
