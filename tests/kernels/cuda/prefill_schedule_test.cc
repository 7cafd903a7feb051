#include "kernels/cuda/prefill/prefill_schedule.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

constexpr int kMultiprocessors = 132;

// Row blocks of one KV head, written independently.
int RowBlocks(const PrefillShape& shape) {
  return (shape.rows + 63) / 64 * (shape.query_heads / shape.kv_heads);
}

void ExpectComplete(const PrefillShape& shape, const PrefillSchedule& schedule, int blocks) {
  ASSERT_GE(schedule.first_item.size(), 2u);
  EXPECT_LE(static_cast<int>(schedule.first_item.size()) - 1, blocks);
  EXPECT_EQ(schedule.first_item.front(), 0);
  EXPECT_EQ(schedule.first_item.back(), static_cast<int>(schedule.items.size()));
  for (size_t i = 1; i < schedule.first_item.size(); ++i) {
    EXPECT_LT(schedule.first_item[i - 1], schedule.first_item[i]) << "an idle block";
  }
  std::set<std::pair<int, int>> seen;
  for (const PrefillItem& item : schedule.items) {
    EXPECT_GE(item.row_blocks, 1);
    EXPECT_LE(item.row_blocks, 3);
    for (int i = 0; i < item.row_blocks; ++i) {
      EXPECT_TRUE(seen.insert({item.kv_head, item.first_row_block + i}).second) << "done twice";
    }
  }
  EXPECT_EQ(static_cast<int>(seen.size()), RowBlocks(shape) * shape.kv_heads);
  EXPECT_EQ(seen.begin()->first, 0);
  EXPECT_EQ(seen.rbegin()->first, shape.kv_heads - 1);
  EXPECT_EQ(seen.rbegin()->second, RowBlocks(shape) - 1);
}

TEST(PrefillScheduleTest, CoversEveryRowOnce) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 60; ++trial) {
    PrefillShape shape;
    shape.kv_heads = 1 + static_cast<int>(random() % 8);
    shape.query_heads = shape.kv_heads * (1 + static_cast<int>(random() % 5));
    shape.rows = 1 + static_cast<int>(random() % 2000);
    shape.cached = static_cast<int>(random() % 3) == 0 ? 0 : static_cast<int>(random() % 20000);
    const int blocks = 1 + static_cast<int>(random() % kMultiprocessors);
    ExpectComplete(shape, SchedulePrefill(shape, blocks), blocks);
  }
}

TEST(PrefillScheduleTest, BlocksEndNearlyTogether) {
  for (const PrefillShape& shape :
       {PrefillShape{4096, 16448, 32, 8}, PrefillShape{16384, 16448, 32, 8}}) {
    const PrefillSchedule schedule = SchedulePrefill(shape, kMultiprocessors);
    // Pairs of 64 rows and 128 keys.
    double largest = 0.0;
    double total = 0.0;
    for (size_t block = 0; block + 1 < schedule.first_item.size(); ++block) {
      double work = 0.0;
      for (int i = schedule.first_item[block]; i < schedule.first_item[block + 1]; ++i) {
        const PrefillItem& item = schedule.items[i];
        const int group = shape.query_heads / shape.kv_heads;
        const int last_row = (item.first_row_block + item.row_blocks - 1) / group * 64;
        work += item.row_blocks * ((shape.cached + 127) / 128 + last_row / 128 + 1);
      }
      largest = std::max(largest, work);
      total += work;
    }
    EXPECT_LT(largest, 1.06 * total / kMultiprocessors);
  }
}

TEST(PrefillScheduleTest, SameShapeGivesSameSchedule) {
  const PrefillShape shape = {1000, 3000, 12, 4};
  const PrefillSchedule a = SchedulePrefill(shape, kMultiprocessors);
  const PrefillSchedule b = SchedulePrefill(shape, kMultiprocessors);
  ASSERT_EQ(a.items.size(), b.items.size());
  EXPECT_EQ(a.first_item, b.first_item);
  for (size_t i = 0; i < a.items.size(); ++i) {
    EXPECT_EQ(a.items[i].first_row_block, b.items[i].first_row_block);
    EXPECT_EQ(a.items[i].kv_head, b.items[i].kv_head);
  }
}

}  // namespace
}  // namespace weir
