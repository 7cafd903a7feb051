#include "worker/engine/layer_budget.h"

#include <optional>

#include "gtest/gtest.h"

namespace weir {
namespace {

constexpr absl::Duration kGap = absl::Milliseconds(50);
constexpr int kLayers = 32;

// A device whose decodes and layers take this long.
struct Device {
  absl::Duration decodes;
  absl::Duration layer;

  absl::Duration Time(const StepWork& work) const {
    return (work.decodes ? decodes : absl::ZeroDuration()) + work.chunk_layers * layer;
  }
};

// Reads chunks beside decodes and returns the longest step after the first `patience` steps.
absl::Duration LongestStep(const Device& device, StepTimes& times, int steps, int patience) {
  absl::Duration longest;
  int left = kLayers;
  for (int step = 0; step < steps; ++step) {
    const int layers = LayersWithin(kGap, times, 512, left);
    EXPECT_GE(layers, 1);
    EXPECT_LE(layers, left);
    left = left == layers ? kLayers : left - layers;
    const StepWork work = {.decodes = true, .chunk_rows = 512, .chunk_layers = layers};
    const absl::Duration time = device.Time(work);
    if (step >= patience) longest = std::max(longest, time);
    times.Observe(work, time);
  }
  return longest;
}

TEST(LayerBudgetTest, OneLayerWhileNothingIsKnown) {
  StepTimes times;
  EXPECT_EQ(LayersWithin(kGap, times, 512, kLayers), 1);
  times.Observe({.decodes = true}, absl::Milliseconds(10));
  EXPECT_EQ(LayersWithin(kGap, times, 512, kLayers), 1);
}

TEST(LayerBudgetTest, AsManyAsFitBesideTheDecodes) {
  StepTimes times;
  times.Observe({.decodes = true}, absl::Milliseconds(10));
  times.Observe({.chunk_rows = 512, .chunk_layers = kLayers}, kLayers * absl::Milliseconds(3));
  EXPECT_EQ(times.decodes(), absl::Milliseconds(10));
  EXPECT_EQ(times.layer(512), absl::Milliseconds(3));
  EXPECT_EQ(LayersWithin(kGap, times, 512, kLayers), 12);  // 13 would fit barely
  EXPECT_EQ(LayersWithin(kGap, times, 512, 5), 5);
  EXPECT_EQ(LayersWithin(absl::Milliseconds(9), times, 512, kLayers), 1);
  EXPECT_EQ(LayersWithin(absl::ZeroDuration(), times, 512, kLayers), 1);
  EXPECT_EQ(LayersWithin(absl::InfiniteDuration(), times, 512, kLayers), kLayers);
}

TEST(LayerBudgetTest, TheFirstChunkBesideADecodeStaysWithinTheGap) {
  const Device devices[] = {{absl::Milliseconds(10), absl::Milliseconds(2)},
                            {absl::Milliseconds(5), absl::Milliseconds(20)},
                            {absl::Microseconds(900), absl::Microseconds(700)},
                            {absl::Milliseconds(45), absl::Milliseconds(1)}};
  for (const Device& device : devices) {
    StepTimes times;
    times.Observe({.decodes = true}, device.decodes);
    EXPECT_LE(LongestStep(device, times, 200, 0), kGap);
    // Nor is it slower than need be.
    const double fitting = absl::FDivDuration(kGap - device.decodes, device.layer);
    EXPECT_GE(LayersWithin(kGap, times, 512, kLayers),
              static_cast<int>(0.5 * std::min<double>(fitting, kLayers)));

    StepTimes nothing;  // the decodes begin together with the chunk
    EXPECT_LE(LongestStep(device, nothing, 200, 0), kGap);
  }
}

TEST(LayerBudgetTest, ADeviceThatChangesIsFollowed) {
  StepTimes times;
  times.Observe({.decodes = true}, absl::Milliseconds(5));
  LongestStep({absl::Milliseconds(5), absl::Milliseconds(1)}, times, 50, 0);
  // More lanes, longer segments: everything takes four times as long.
  const Device slow = {absl::Milliseconds(20), absl::Milliseconds(4)};
  EXPECT_LE(LongestStep(slow, times, 100, 20), kGap);
  // What held up one step is soon forgotten.
  times.Observe({.decodes = true, .chunk_rows = 512, .chunk_layers = 7}, absl::Seconds(10));
  LongestStep(slow, times, 30, 0);
  EXPECT_GE(LayersWithin(kGap, times, 512, kLayers), 4);
  EXPECT_LE(LongestStep(slow, times, 100, 0), kGap);
}

TEST(LayerBudgetTest, OtherSizesOfChunksAreGuessedOnTheSafeSide) {
  StepTimes times;
  EXPECT_EQ(times.layer(1), std::nullopt);
  times.Observe({.chunk_rows = 64, .chunk_layers = 4}, absl::Milliseconds(8));
  EXPECT_EQ(times.layer(64), absl::Milliseconds(2));
  EXPECT_EQ(times.layer(100), absl::Milliseconds(2));
  EXPECT_EQ(times.layer(3), absl::Milliseconds(2));
  EXPECT_EQ(times.layer(512), absl::Milliseconds(16));
  times.Observe({.chunk_rows = 1, .chunk_layers = 4}, absl::Milliseconds(4));
  EXPECT_EQ(times.layer(1), absl::Milliseconds(1));
  EXPECT_EQ(times.layer(2), absl::Milliseconds(2));
}

TEST(LayerBudgetTest, StepsThatReturnEarlyAreMeasuredTogether) {
  const StepWork chunk = {.chunk_rows = 512, .chunk_layers = kLayers};
  StepWork running = chunk;
  running.finished = false;
  StepObserver observer;
  observer.OnStep(running, absl::Milliseconds(1));
  EXPECT_EQ(observer.times().layer(512), std::nullopt);
  observer.OnStep(chunk, absl::Milliseconds(191));
  EXPECT_EQ(observer.times().layer(512), absl::Milliseconds(3));
}

TEST(LayerBudgetTest, WhatCannotBeMeasuredIsNot) {
  const StepWork chunk = {.chunk_rows = 512, .chunk_layers = kLayers};
  StepWork running = chunk;
  running.finished = false;
  StepWork more = chunk;
  more.measured = false;

  StepObserver observer;
  observer.OnPause();  // nothing runs: no harm
  observer.OnStep(running, absl::Milliseconds(1));
  observer.OnPause();
  observer.OnStep(chunk, absl::Milliseconds(2));
  EXPECT_EQ(observer.times().layer(512), std::nullopt);
  observer.OnStep(more, absl::Seconds(1));
  EXPECT_EQ(observer.times().layer(512), std::nullopt);
  observer.OnStep(running, absl::Milliseconds(1));
  observer.OnStep({.chunk_rows = 3, .chunk_layers = kLayers}, absl::Milliseconds(100));
  EXPECT_EQ(observer.times().layer(512), std::nullopt);
  observer.OnStep({}, absl::Milliseconds(1));
  EXPECT_EQ(observer.times().decodes(), absl::ZeroDuration());
  observer.OnStep(chunk, absl::Milliseconds(96));
  EXPECT_EQ(observer.times().layer(512), absl::Milliseconds(3));
}

}  // namespace
}  // namespace weir
