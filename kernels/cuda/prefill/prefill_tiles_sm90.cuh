#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_TILES_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_TILES_SM90_CUH_

// Which rows and which keys an item of the prefill schedule stands for. All warps of a block walk
// the same tiles in the same order.

#include "kernels/cuda/prefill/prefill_schedule.h"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"

namespace weir {

// 64 rows of one query head.
struct RowBlock {
  int first_row;
  int head;

  __device__ RowBlock(const PrefillArguments& arguments, PrefillItem item, int index)
      : first_row((item.first_row_block + index) / arguments.group * kBlockRows),
        head(item.kv_head * arguments.group + (item.first_row_block + index) % arguments.group) {}
};

// The tiles of keys of one item, in the order of visiting: the chunk's own tile on the diagonal,
// the first cached tile (the sinks), the chunk's earlier tiles, the remaining cached tiles. The
// tiles with the largest probabilities come first; then the running normaliser, which weighs the
// column sums, is soon close to the final one.
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

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_TILES_SM90_CUH_
