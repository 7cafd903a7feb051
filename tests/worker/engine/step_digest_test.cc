#include "worker/engine/step_digest.h"

#include <set>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

constexpr CascadeConfig kCascade = {.sinks = 1, .slots = 12, .sub_caches = 2, .stride = 4};

// A session past its cache.
KvCache FullCache(int cache_slot, int tokens = 40) {
  KvCache cache(cache_slot, kCascade);
  for (int token = 0; token < tokens; ++token) cache.Commit(cache.Plan(0, 1));
  return cache;
}

// A step in which slot 0 decodes and slot 1 reads a chunk.
struct Step {
  StepPlan plan;
  std::vector<SequenceStep> decodes;
  SequenceStep chunk;
  int chunk_layers_left = 5;

  uint64_t Digest() const {
    return DigestOf({.plan = plan,
                     .decodes = decodes,
                     .chunk = &chunk,
                     .chunk_layers_left = chunk_layers_left});
  }
};

Step MakeStep() {
  Step step;
  step.plan.step = 17;
  step.plan.decodes.push_back({.cache_slot = 0, .token = 5, .next = LikeliestRequest()});
  step.plan.chunk = PlannedChunk{.cache_slot = 1, .tokens = {6, 7, 8}};
  step.plan.chunk_layers = 2;
  step.decodes.push_back(FullCache(0).Plan(0, 1));
  step.chunk = FullCache(1).Plan(0, 3);
  return step;
}

TEST(StepDigestTest, IsTheSameForTheSameStepInEveryProcess) {
  EXPECT_EQ(MakeStep().Digest(), MakeStep().Digest());
  // FNV-1a of the bytes, worked out elsewhere.
  EXPECT_EQ(DigestOf({.plan = StepPlan()}), 0xd8b324abbc286ab7u);
}

TEST(StepDigestTest, TellsPlansApart) {
  std::set<uint64_t> digests = {MakeStep().Digest()};
  const auto add = [&](auto change) {
    Step step = MakeStep();
    change(step.plan);
    EXPECT_TRUE(digests.insert(step.Digest()).second) << digests.size();
  };
  add([](StepPlan& plan) { plan.step = 18; });
  add([](StepPlan& plan) { plan.resets.push_back({.cache_slot = 2, .cascade = kCascade}); });
  add([](StepPlan& plan) { plan.decodes[0].token = 6; });
  add([](StepPlan& plan) { plan.decodes[0].next->seed = 1; });
  add([](StepPlan& plan) { plan.decodes[0].next.reset(); });
  add([](StepPlan& plan) { plan.chunk->tokens = {6, 8, 7}; });
  add([](StepPlan& plan) { plan.chunk_layers = 3; });
  add([](StepPlan& plan) { plan.synchronize = false; });
  add([](StepPlan& plan) { plan.inspection = Inspection{.cache_slot = 0, .layer = 1}; });
}

// Of a rank that has lost its place.
TEST(StepDigestTest, TellsWhatCountersMakeOfAPlan) {
  std::set<uint64_t> digests = {MakeStep().Digest()};
  const auto add = [&](auto change) {
    Step step = MakeStep();
    change(step);
    EXPECT_TRUE(digests.insert(step.Digest()).second) << digests.size();
  };
  add([](Step& step) { step.decodes[0] = FullCache(0, 41).Plan(0, 1); });
  add([](Step& step) { step.decodes[0] = FullCache(0).Plan(1, 1); });
  add([](Step& step) { step.decodes.push_back({.cache_slot = 2}); });
  add([](Step& step) { step.decodes.clear(); });
  add([](Step& step) { step.chunk = FullCache(1, 39).Plan(0, 3); });
  add([](Step& step) { step.chunk_layers_left = 4; });
  add([](Step& step) { ++step.chunk.first_token; });
  add([](Step& step) { ++step.chunk.first_sink_slot; });
  add([](Step& step) { ++step.chunk.sink_rows; });
  add([](Step& step) { step.chunk.cascade.beta = 0.5; });
  add([](Step& step) { step.chunk.cascade.head_reduction = HeadReduction::kMean; });
  add([](Step& step) { ++step.chunk.segments.back().first_slot; });
  add([](Step& step) { ++step.chunk.segments.back().slot_count; });
  add([](Step& step) { ++step.chunk.segments.back().query_rotation; });
  add([](Step& step) { ++step.chunk.rings.back().size; });
  add([](Step& step) { ++step.chunk.rings.back().head; });
  add([](Step& step) { ++step.chunk.rings.back().arrivals; });
  add([](Step& step) { ++step.chunk.rings.back().evicted; });
  add([](Step& step) { step.chunk.rings.front().run_begin.push_back(9); });
  add([](Step& step) { ++step.chunk.rings.front().run_begin.back(); });
}

}  // namespace
}  // namespace weir
