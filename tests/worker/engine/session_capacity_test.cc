#include "worker/engine/session_capacity.h"

#include <string>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(SessionCapacityTest, TheRankWithTheLeastRoomDecides) {
  EXPECT_EQ(SessionsWithRoom({{"gpu 0", 100, 10}}), 10);
  EXPECT_EQ(SessionsWithRoom({{"gpu 0", 100, 10}, {"gpu 1", 59, 10}}), 5);
  EXPECT_EQ(SessionsWithRoom({{"gpu 0", 100, 10}, {"gpu 1", 100, 40}}), 2);
  EXPECT_EQ(SessionsWithRoom({{"gpu 0", 100, 10}, {"gpu 1", 9, 10}}), 0);
}

TEST(SessionCapacityTest, RanksOfOnePlaceShareIt) {
  EXPECT_EQ(SessionsWithRoom({{"host", 100, 10}, {"host", 90, 20}}), 3);
  EXPECT_EQ(SessionsWithRoom({{"a", 100, 10}, {"b", 50, 10}, {"a", 100, 10}}), 5);
  EXPECT_EQ(SessionsWithRoom({{"a", 100, 10}, {"b", 60, 10}, {"a", 100, 20}}), 3);
}

TEST(SessionCapacityTest, WhatARankTellsIsChecked) {
  const absl::StatusOr<RankMemory> told =
      ParseRankMemory(SerializeRankMemory({"a host, GPU 1", int64_t{1} << 40, 7}));
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->place, "a host, GPU 1");
  EXPECT_EQ(told->free, int64_t{1} << 40);
  EXPECT_EQ(told->session_bytes, 7);
  for (const std::string bytes :
       {"", "1", "1 2", "x 2 a", "1 y a", "-1 2 a", "1 0 a", "1 -2 a", "99999999999999999999 1 a",
        "1 9000000000000000000 a", "9000000000000000000 1 a"}) {
    EXPECT_EQ(ParseRankMemory(bytes).status().code(), absl::StatusCode::kInternal) << bytes;
  }
}

}  // namespace
}  // namespace weir
