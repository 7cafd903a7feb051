#include "kernels/cuda/prefill/prefill_schedule.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace weir {
namespace {

// Ways to cut that are tried, at most.
constexpr int kMostCuts = 64;

int CeilDivide(int a, int b) { return (a + b - 1) / b; }

// Items of one KV head, in the order of rows, and what each costs.
struct Cut {
  std::vector<PrefillItem> items;  // kv_head is 0
  std::vector<int64_t> costs;
};

// The first `pairs` items have two row blocks each, the others three, but for what is left over.
Cut CutRows(const PrefillShape& shape, int pairs) {
  // Time of a step with that many row blocks; fewer leave the tensor cores idle at times.
  constexpr int kStepCost[kItemRowBlocks + 1] = {0, 66, 72, 100};
  constexpr int kOverheadSteps = 2;  // what an item's start and end take
  const int group = shape.query_heads / shape.kv_heads;
  const int row_blocks = CeilDivide(shape.rows, kBlockRows) * group;
  Cut cut;
  for (int first = 0; first < row_blocks;) {
    const int most = static_cast<int>(cut.items.size()) < pairs ? 2 : kItemRowBlocks;
    const int count = std::min(most, row_blocks - first);
    const int own_tiles = (first + count - 1) / group * kBlockRows / kKeyTile + 1;
    const int steps = kOverheadSteps + CeilDivide(shape.cached, kKeyTile) + own_tiles;
    cut.items.push_back({first, count, 0});
    cut.costs.push_back(int64_t{steps} * kStepCost[count]);
    first += count;
  }
  return cut;
}

// For every block of the kernel the items that it does, most expensive first, as indices.
using Packing = std::vector<std::vector<int>>;

// Puts `copies` of every item into the first block that has room, the most expensive items first.
// Empty if one fits nowhere.
Packing Pack(const std::vector<int64_t>& costs, int copies, int blocks, int64_t room) {
  std::vector<int> order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return costs[a] > costs[b]; });
  Packing packing(blocks);
  std::vector<int64_t> used(blocks, 0);
  for (const int item : order) {
    int block = 0;
    for (int copy = 0; copy < copies; ++copy) {
      while (block < blocks && used[block] + costs[item] > room) ++block;
      if (block == blocks) return {};
      used[block] += costs[item];
      packing[block].push_back(item);
    }
  }
  return packing;
}

// Packs with the least room that is less than `limit` and for which packing succeeds (nearly:
// packing is not monotonous), and makes that the limit. Empty if there is none.
Packing PackBelow(const std::vector<int64_t>& costs, int copies, int blocks, int64_t& limit) {
  int64_t total = 0;
  for (const int64_t cost : costs) total += cost * copies;
  int64_t low =
      std::max(*std::max_element(costs.begin(), costs.end()), (total + blocks - 1) / blocks);
  if (low >= limit) return {};
  Packing best = Pack(costs, copies, blocks, limit - 1);
  if (best.empty()) return {};
  --limit;
  while (low < limit) {
    const int64_t room = (low + limit) / 2;
    Packing packing = Pack(costs, copies, blocks, room);
    if (packing.empty()) {
      low = room + 1;
    } else {
      best = std::move(packing);
      limit = room;
    }
  }
  return best;
}

}  // namespace

PrefillSchedule SchedulePrefill(const PrefillShape& shape, int blocks) {
  const int group = shape.query_heads / shape.kv_heads;
  const int row_blocks = CeilDivide(shape.rows, kBlockRows) * group;
  int64_t limit = std::numeric_limits<int64_t>::max();
  Cut cut;
  Packing packing;
  const int steps = CeilDivide(row_blocks / 2, kMostCuts);
  for (int pairs = 0; pairs * 2 <= row_blocks; pairs += std::max(1, steps)) {
    Cut candidate = CutRows(shape, pairs);
    Packing better = PackBelow(candidate.costs, shape.kv_heads, blocks, limit);
    if (better.empty()) continue;
    packing = std::move(better);
    cut = std::move(candidate);
  }

  // Heads are dealt out round by round, so that all blocks work on the same few heads at a time and
  // share their keys and values in the second cache.
  PrefillSchedule schedule;
  schedule.first_item.push_back(0);
  size_t rounds = 0;
  for (const std::vector<int>& chosen : packing) {
    if (chosen.empty()) continue;
    schedule.first_item.push_back(schedule.first_item.back() + static_cast<int>(chosen.size()));
    rounds = std::max(rounds, chosen.size());
  }
  schedule.items.resize(schedule.first_item.back());
  std::vector<int> next_head(cut.items.size(), 0);
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t block = 0; block + 1 < schedule.first_item.size(); ++block) {
      if (round >= packing[block].size()) continue;
      const int item = packing[block][round];
      PrefillItem& scheduled = schedule.items[schedule.first_item[block] + round];
      scheduled = cut.items[item];
      scheduled.kv_head = next_head[item]++;
    }
  }
  return schedule;
}

}  // namespace weir
