#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_SCHEDULE_H_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_SCHEDULE_H_

#include <vector>

namespace weir {

// A block of the attention kernel works on up to three blocks of 64 rows at a time, all of one KV
// head, and takes 128 keys at a time.
constexpr int kItemRowBlocks = 3;
constexpr int kBlockRows = 64;
constexpr int kKeyTile = 128;

// Row block b of a KV head with `group` query heads: rows [64 * (b / group), + 64) of its query
// head b % group. An item is the row blocks [first_row_block, first_row_block + row_blocks).
struct PrefillItem {
  int first_row_block;
  int row_blocks;  // 1 .. 3
  int kv_head;
};

// Which block of the attention kernel does which items: block b does items
// [first_item[b], first_item[b + 1]), one after another.
struct PrefillSchedule {
  std::vector<PrefillItem> items;
  std::vector<int> first_item;  // [blocks + 1]
};

struct PrefillShape {
  int rows = 0;
  int cached = 0;
  int query_heads = 0;
  int kv_heads = 0;
};

// Cuts the attention of a chunk into items for at most `blocks` blocks, so that all blocks end at
// nearly the same time. Items differ in length, as later rows see more of the chunk, and there are
// only a few items a block, so this is worth some percent; smaller items fill the gaps.
PrefillSchedule SchedulePrefill(const PrefillShape& shape, int blocks);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_SCHEDULE_H_
