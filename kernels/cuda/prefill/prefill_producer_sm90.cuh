#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_PRODUCER_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_PRODUCER_SM90_CUH_

#include <cstdint>

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"
#include "kernels/cuda/prefill/prefill_tiles_sm90.cuh"
#include "kernels/cuda/prefill/ring_position.h"
#include "kernels/cuda/prefill/shared_tile.h"

namespace weir {

// The producer of a block of the prefill kernel: one thread that feeds the queries, keys and values
// of all items through the copy engine, as stages become empty.
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

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_PRODUCER_SM90_CUH_
