#include "worker/engine/step_plan.h"

#include <string>

#include "gtest/gtest.h"

namespace weir {
namespace {

StepPlan SomePlan() {
  StepPlan plan;
  plan.step = 1234567890123;
  plan.stop = true;
  CascadeConfig cascade = {.sinks = 3,
                           .slots = 12,
                           .sub_caches = 2,
                           .stride = 5,
                           .beta = 0.875,
                           .head_reduction = HeadReduction::kMean};
  plan.resets.push_back({.cache_slot = 7, .cascade = cascade});
  plan.resets.push_back({.cache_slot = 8});
  plan.decodes.push_back({.cache_slot = 2,
                          .token = 0,
                          .next = LikeliestRequest{.seed = 0xfedcba9876543210,
                                                   .index = 0x123456789abcdef0,
                                                   .inverse_temperature = 0.75f,
                                                   .likeliest = 1000,
                                                   .target = 49151,
                                                   .draw = true}});
  plan.decodes.push_back({.cache_slot = 5, .token = 49151});
  plan.decodes.push_back({.cache_slot = 3, .next = LikeliestRequest()});
  plan.chunk = PlannedChunk{.cache_slot = 7,
                            .tokens = {1, 2, 49151},
                            .next = LikeliestRequest{.likeliest = 20},
                            .score = true};
  plan.chunk_layers = 11;
  plan.synchronize = false;
  plan.inspection = Inspection{.cache_slot = 2, .layer = 29};
  return plan;
}

TEST(StepPlanTest, ComesBackAsItWas) {
  for (const StepPlan& plan : {StepPlan(), SomePlan()}) {
    const absl::StatusOr<StepPlan> parsed = ParseStepPlan(SerializeStepPlan(plan));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(*parsed == plan);
  }
  StepPlan without = SomePlan();
  without.chunk.reset();
  without.inspection.reset();
  const absl::StatusOr<StepPlan> parsed = ParseStepPlan(SerializeStepPlan(without));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(*parsed == without);

  StepPlan other = SomePlan();
  other.resets[0].cascade.head_reduction = HeadReduction::kMax;
  EXPECT_FALSE(other == SomePlan());
  other = SomePlan();
  other.decodes[0].next->draw = false;
  EXPECT_FALSE(other == SomePlan());
}

TEST(StepPlanTest, EveryTruncationIsRefused) {
  const std::string bytes = SerializeStepPlan(SomePlan());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const absl::StatusOr<StepPlan> parsed = ParseStepPlan(bytes.substr(0, size));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInternal) << size;
  }
  EXPECT_EQ(ParseStepPlan(bytes + "x").status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(ParseStepPlan("x" + bytes).status().code(), absl::StatusCode::kInternal);
}

TEST(StepPlanTest, OnlyAPlanOfNothingIsEmpty) {
  StepPlan plan;
  EXPECT_TRUE(plan.empty());
  plan.chunk_layers = 1;  // of the chunk in progress
  EXPECT_FALSE(plan.empty());
}

// No byte that is wrong makes it read past the end or reserve more than there is.
TEST(StepPlanTest, DamageNeverCrashes) {
  const std::string bytes = SerializeStepPlan(SomePlan());
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int value : {0, 1, 127, 255}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(value);
      const absl::StatusOr<StepPlan> parsed = ParseStepPlan(damaged);
      EXPECT_TRUE(!parsed.ok() || SerializeStepPlan(*parsed).size() == bytes.size());
    }
  }
}

}  // namespace
}  // namespace weir
