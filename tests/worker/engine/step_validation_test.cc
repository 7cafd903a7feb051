#include "worker/engine/step_validation.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using testing::HasSubstr;

constexpr int kVocabulary = 267;
constexpr int kLayers = 3;
constexpr CascadeConfig kCascade = {.sinks = 1, .slots = 6, .sub_caches = 2, .stride = 4};

// Slot 0 has read, slot 1 has begun, slots 2 and 3 are not used.
StepState State() {
  StepState state = {.layers = kLayers,
                     .vocabulary = kVocabulary,
                     .limits = {.positions = 100, .total_slots = 7, .stride = 4},
                     .slots = std::vector<StepState::Slot>(4)};
  state.slots[0] = {.cascade = kCascade, .has_read = true};
  state.slots[1] = {.cascade = kCascade};
  return state;
}

// Slot 1 reads a chunk.
StepState InChunk(int layers_left = 2) {
  StepState state = State();
  state.chunk = {.cache_slot = 1, .layers_left = layers_left};
  return state;
}

std::string Refused(const StepPlan& plan, const StepState& state = State()) {
  const absl::Status status = ValidateStepPlan(plan, state);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  return std::string(status.message());
}

StepPlan Decodes(std::vector<PlannedDecode> decodes) {
  StepPlan plan;
  plan.decodes = std::move(decodes);
  return plan;
}

StepPlan Chunk(PlannedChunk chunk, int layers = kLayers) {
  StepPlan plan;
  plan.chunk = std::move(chunk);
  plan.chunk_layers = layers;
  return plan;
}

StepPlan Layers(int layers) {
  StepPlan plan;
  plan.chunk_layers = layers;
  return plan;
}

TEST(StepValidationTest, Decodes) {
  EXPECT_TRUE(ValidateStepPlan(Decodes({{.cache_slot = 1, .token = 0},
                                        {.cache_slot = 0, .next = LikeliestRequest()}}),
                               State())
                  .ok());
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 2, .token = 1}})),
              HasSubstr("slot 2, which is not used"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 4, .token = 1}})), HasSubstr("slot 4"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = -1, .token = 1}})), HasSubstr("slot -1"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 0}})), HasSubstr("nothing to do for slot 0"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 1, .next = LikeliestRequest()}})),
              HasSubstr("nothing to do for slot 1"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 0, .token = kVocabulary}})),
              HasSubstr("token 267; there are 267"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 0, .token = -1}})), HasSubstr("token -1"));
  EXPECT_THAT(Refused(Decodes({{.cache_slot = 0, .token = 1}, {.cache_slot = 0, .token = 1}})),
              HasSubstr("slot 0 twice"));
  EXPECT_THAT(Refused(Decodes(
                  {{.cache_slot = 0, .next = LikeliestRequest()}, {.cache_slot = 1, .token = 1}})),
              HasSubstr("slot 1, which reads a token, behind one that reads none"));
}

TEST(StepValidationTest, Requests) {
  const auto decode = [](const LikeliestRequest& request) {
    return Decodes({{.cache_slot = 0, .next = request}});
  };
  EXPECT_TRUE(ValidateStepPlan(decode({.likeliest = 1024}), State()).ok());
  EXPECT_THAT(Refused(decode({.likeliest = 0})), HasSubstr("0 likeliest tokens"));
  EXPECT_THAT(Refused(decode({.likeliest = 1025})), HasSubstr("1025 likeliest tokens"));
  for (const float inverse : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    EXPECT_THAT(Refused(decode({.inverse_temperature = inverse})),
                HasSubstr("inverse temperature"));
  }
  EXPECT_THAT(
      Refused(Chunk({.cache_slot = 0, .tokens = {1}, .next = LikeliestRequest{.likeliest = -1}})),
      HasSubstr("-1 likeliest tokens"));
}

TEST(StepValidationTest, ChunksThatBegin) {
  EXPECT_TRUE(ValidateStepPlan(Chunk({.cache_slot = 1, .tokens = {1, 2, 3, 4}}), State()).ok());
  EXPECT_TRUE(ValidateStepPlan(Chunk({.cache_slot = 1, .tokens = {1}}, 1), State()).ok());
  EXPECT_THAT(Refused(Chunk({.cache_slot = 2, .tokens = {1}})), HasSubstr("slot 2"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0})), HasSubstr("a chunk of 0 tokens of slot 0"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1, 2, 3, 4, 5}})),
              HasSubstr("stride is 4"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1, kVocabulary}})),
              HasSubstr("token 267"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1}}, 0)), HasSubstr("with 0 layers"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1}}, -1)), HasSubstr("with -1 layers"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1}}, kLayers + 1)),
              HasSubstr("4 layers of a chunk that has 3 left"));
  StepPlan both = Chunk({.cache_slot = 0, .tokens = {1}}, 1);
  both.decodes = {{.cache_slot = 0, .token = 1}};
  EXPECT_THAT(Refused(both), HasSubstr("slot 0 twice"));
}

TEST(StepValidationTest, TheChunkInProgress) {
  for (int layers : {0, 1, 2}) EXPECT_TRUE(ValidateStepPlan(Layers(layers), InChunk()).ok());
  EXPECT_THAT(Refused(Layers(3), InChunk()), HasSubstr("3 layers of a chunk that has 2 left"));
  EXPECT_THAT(Refused(Layers(-1), InChunk()), HasSubstr("-1 layers"));
  EXPECT_THAT(Refused(Layers(1)), HasSubstr("1 layers of a chunk that has 0 left"));
  EXPECT_THAT(Refused(Chunk({.cache_slot = 0, .tokens = {1}}, 1), InChunk()),
              HasSubstr("a chunk of slot 0 while one of slot 1 is in progress"));
  StepPlan decode = Layers(2);  // not in the step that ends the chunk either
  decode.decodes = {{.cache_slot = 1, .token = 1}};
  EXPECT_THAT(Refused(decode, InChunk()), HasSubstr("slot 1 twice"));
  decode.decodes[0].cache_slot = 0;
  EXPECT_TRUE(ValidateStepPlan(decode, InChunk()).ok());

  // A reset of its slot abandons it, one of another slot does not.
  StepPlan reset = Chunk({.cache_slot = 0, .tokens = {1}}, 1);
  reset.resets = {{.cache_slot = 1, .cascade = kCascade}};
  EXPECT_TRUE(ValidateStepPlan(reset, InChunk()).ok());
  reset.chunk.reset();
  EXPECT_THAT(Refused(reset, InChunk()), HasSubstr("has 0 left"));
  reset.resets[0].cache_slot = 2;
  EXPECT_TRUE(ValidateStepPlan(reset, InChunk()).ok());
}

TEST(StepValidationTest, Resets) {
  StepPlan plan;
  plan.resets.push_back({.cache_slot = 4, .cascade = kCascade});
  EXPECT_THAT(Refused(plan), HasSubstr("slot 4 of 4"));
  plan.resets = {{.cache_slot = -1, .cascade = kCascade}};
  EXPECT_THAT(Refused(plan), HasSubstr("slot -1 of 4"));
  plan.resets = {{.cache_slot = 3, .cascade = kCascade}};
  plan.resets[0].cascade.sinks = 2;
  EXPECT_THAT(Refused(plan), HasSubstr("sinks + slots"));

  // A session that begins has not read anything.
  plan = Decodes({{.cache_slot = 0, .next = LikeliestRequest()}});
  plan.resets = {{.cache_slot = 0, .cascade = kCascade}};
  EXPECT_THAT(Refused(plan), HasSubstr("nothing to do for slot 0"));
  // It may have a smaller stride than the largest.
  plan = Chunk({.cache_slot = 2, .tokens = {1, 2, 3, 4}});
  plan.resets = {{.cache_slot = 2, .cascade = kCascade}};
  EXPECT_TRUE(ValidateStepPlan(plan, State()).ok());
  plan.resets[0].cascade.stride = 3;
  EXPECT_THAT(Refused(plan), HasSubstr("stride is 3"));
}

TEST(StepValidationTest, Inspections) {
  const auto inspect = [](int slot, int layer, int chunk_layers = 0) {
    StepPlan plan = Layers(chunk_layers);
    plan.inspection = Inspection{.cache_slot = slot, .layer = layer};
    return plan;
  };
  EXPECT_TRUE(ValidateStepPlan(inspect(1, kLayers - 1), State()).ok());
  EXPECT_THAT(Refused(inspect(0, kLayers)), HasSubstr("slot 0, layer 3"));
  EXPECT_THAT(Refused(inspect(0, -1)), HasSubstr("slot 0, layer -1"));
  EXPECT_THAT(Refused(inspect(2, 0)), HasSubstr("slot 2"));

  EXPECT_THAT(Refused(inspect(1, 0, 1), InChunk()), HasSubstr("while it reads a chunk"));
  EXPECT_TRUE(ValidateStepPlan(inspect(1, 0, 2), InChunk()).ok());
  EXPECT_TRUE(ValidateStepPlan(inspect(0, 0, 1), InChunk()).ok());
}

}  // namespace
}  // namespace weir
