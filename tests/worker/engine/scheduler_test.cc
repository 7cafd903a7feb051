#include "worker/engine/scheduler.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SchedulerTest, AllRowsAndOneChunk) {
  EXPECT_THAT(ScheduleStep({}), IsEmpty());
  const std::vector<StepCandidate> candidates = {
      {.run = 5},
      {.run = 4, .prefill = true},
      {.run = 3, .prefill = true},
      {.run = 9},
  };
  EXPECT_THAT(ScheduleStep(candidates), ElementsAre(0, 2, 3));
}

TEST(SchedulerTest, PrefillingRunsTakeTurns) {
  std::vector<StepCandidate> candidates = {
      {.run = 2, .prefill = true},
      {.run = 0, .prefill = true},
      {.run = 1, .prefill = true},
  };
  std::vector<int64_t> order;
  for (int64_t step = 0; step < 9; ++step) {
    const std::vector<int> chosen = ScheduleStep(candidates);
    ASSERT_EQ(chosen.size(), 1u);
    order.push_back(candidates[chosen[0]].run);
    candidates[chosen[0]].last_prefill_step = step;
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 0, 1, 2, 0, 1, 2));
  // One that comes later is first served, then waits like the others.
  candidates.push_back({.run = 3, .prefill = true});
  EXPECT_THAT(ScheduleStep(candidates), ElementsAre(3));
}

}  // namespace
}  // namespace weir
