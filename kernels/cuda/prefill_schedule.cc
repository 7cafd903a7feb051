#include "kernels/cuda/prefill_schedule.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace weir {
namespace {

int CeilDivide(int a, int b) { return (a + b - 1) / b; }

// For every block of the kernel the items that it does, longest first, as indices into `cost`.
using Packing = std::vector<std::vector<int>>;

// Puts `copies` items of every cost, which rises, into the first block that has room. Empty if one
// fits nowhere.
Packing Pack(const std::vector<int64_t>& cost, int copies, int blocks, int64_t room) {
  Packing packing(blocks);
  std::vector<int64_t> used(blocks, 0);
  for (int item = static_cast<int>(cost.size()) - 1; item >= 0; --item) {
    int block = 0;
    for (int copy = 0; copy < copies; ++copy) {
      while (block < blocks && used[block] + cost[item] > room) ++block;
      if (block == blocks) return {};
      used[block] += cost[item];
      packing[block].push_back(item);
    }
  }
  return packing;
}

// With the least room for which packing succeeds (nearly: packing is not monotonous).
Packing PackTightly(const std::vector<int64_t>& cost, int copies, int blocks) {
  int64_t high = 0;
  for (const int64_t one : cost) high += one * copies;
  int64_t low = std::max(cost.back(), (high + blocks - 1) / blocks);
  Packing best = Pack(cost, copies, blocks, high);
  while (low < high) {
    const int64_t room = (low + high) / 2;
    Packing packing = Pack(cost, copies, blocks, room);
    if (packing.empty()) {
      low = room + 1;
    } else {
      best = std::move(packing);
      high = room;
    }
  }
  return best;
}

}  // namespace

PrefillSchedule SchedulePrefill(const PrefillShape& shape, int blocks) {
  const int group = shape.query_heads / shape.kv_heads;
  const int row_blocks = CeilDivide(shape.rows, kBlockRows) * group;
  const int items = CeilDivide(row_blocks, kItemRowBlocks);
  // In tiles of keys; an item's start and end cost about as much as two.
  constexpr int kOverhead = 2;
  std::vector<int64_t> cost(items);
  for (int item = 0; item < items; ++item) {
    const int last_row_block = std::min((item + 1) * kItemRowBlocks, row_blocks) - 1;
    const int own_tiles = last_row_block / group * kBlockRows / kKeyTile + 1;
    cost[item] = kOverhead + CeilDivide(shape.cached, kKeyTile) + own_tiles;
  }
  const Packing packing =
      PackTightly(cost, shape.kv_heads, std::min(blocks, items * shape.kv_heads));

  // Heads are dealt out round by round, so that all blocks work on the same few heads at a time and
  // share their keys and values in the second cache.
  PrefillSchedule schedule;
  schedule.first_item.push_back(0);
  size_t rounds = 0;
  for (const std::vector<int>& chosen : packing) {
    schedule.first_item.push_back(schedule.first_item.back() + static_cast<int>(chosen.size()));
    rounds = std::max(rounds, chosen.size());
  }
  schedule.items.resize(schedule.first_item.back());
  std::vector<int> next_head(items, 0);
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t block = 0; block < packing.size(); ++block) {
      if (round >= packing[block].size()) continue;
      const int item = packing[block][round];
      schedule.items[schedule.first_item[block] + round] = {item * kItemRowBlocks,
                                                            next_head[item]++};
    }
  }
  return schedule;
}

}  // namespace weir
