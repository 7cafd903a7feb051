#include "worker/engine/scheduler.h"

#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SchedulerTest, AllDecodesAndOneChunk) {
  EXPECT_THAT(ScheduleStep({}, false).decodes, IsEmpty());
  EXPECT_EQ(ScheduleStep({}, false).chunk, std::nullopt);
  const std::vector<StepCandidate> candidates = {
      {.run = 5},
      {.run = 4, .prefill = true},
      {.run = 3, .prefill = true},
      {.run = 9},
  };
  const ScheduledStep step = ScheduleStep(candidates, false);
  EXPECT_THAT(step.decodes, ElementsAre(0, 3));
  EXPECT_EQ(step.chunk, 2);
}

TEST(SchedulerTest, NoChunkBeginsWhileOneIsInProgress) {
  const std::vector<StepCandidate> candidates = {{.run = 4, .prefill = true}, {.run = 5}};
  const ScheduledStep step = ScheduleStep(candidates, true);
  EXPECT_THAT(step.decodes, ElementsAre(1));
  EXPECT_EQ(step.chunk, std::nullopt);
}

TEST(SchedulerTest, PrefillingRunsTakeTurns) {
  std::vector<StepCandidate> candidates = {
      {.run = 2, .prefill = true},
      {.run = 0, .prefill = true},
      {.run = 1, .prefill = true},
  };
  std::vector<int64_t> order;
  for (int64_t step = 0; step < 9; ++step) {
    const std::optional<int> chosen = ScheduleStep(candidates, false).chunk;
    ASSERT_TRUE(chosen.has_value());
    order.push_back(candidates[*chosen].run);
    candidates[*chosen].last_prefill_step = step;
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 0, 1, 2, 0, 1, 2));
  // One that comes later is first served, then waits like the others.
  candidates.push_back({.run = 3, .prefill = true});
  EXPECT_EQ(ScheduleStep(candidates, false).chunk, 3);
}

}  // namespace
}  // namespace weir
