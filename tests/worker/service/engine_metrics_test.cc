#include "worker/service/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "monitoring/metrics.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

EngineStats Stats(int64_t factor) {
  EngineStats stats;
  stats.steps = 10 * factor;
  stats.prompt_tokens = 100 * factor;
  stats.generated_tokens = 7 * factor;
  stats.runs_running = 2;
  stats.runs_waiting = 1;
  stats.sessions_open = 3;
  stats.session_capacity = 8;
  stats.slots_filled = 40;
  stats.slot_capacity = 512;
  stats.cache_bytes = 4096;
  stats.sub_caches = {{.accepts = 5 * factor, .swaps = 0, .drops = 0},
                      {.accepts = 2 * factor, .swaps = 3 * factor, .drops = factor}};
  stats.all_reduce_time = absl::Milliseconds(500 * factor);
  return stats;
}

TEST(EngineMetricsTest, TotalsGrowAndLevelsFollow) {
  Metrics metrics("test");
  EngineMetrics engine(&metrics);
  engine.Update(Stats(1));
  engine.Update(Stats(3));
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("weir_engine_steps_total 30"));
  EXPECT_THAT(text, HasSubstr("weir_engine_prompt_tokens_total 300"));
  EXPECT_THAT(text, HasSubstr("weir_engine_generated_tokens_total 21"));
  EXPECT_THAT(text, HasSubstr("weir_engine_all_reduce_seconds_total 1.5"));
  EXPECT_THAT(text, HasSubstr("weir_engine_runs_running 2"));
  EXPECT_THAT(text, HasSubstr("weir_engine_runs_waiting 1"));
  EXPECT_THAT(text, HasSubstr("weir_engine_sessions_open 3"));
  EXPECT_THAT(text, HasSubstr("weir_engine_session_capacity 8"));
  EXPECT_THAT(text, HasSubstr("weir_engine_cache_slots_filled 40"));
  EXPECT_THAT(text, HasSubstr("weir_engine_cache_slot_capacity 512"));
  EXPECT_THAT(text, HasSubstr("weir_engine_cache_bytes 4096"));
  EXPECT_THAT(text, HasSubstr("weir_engine_sub_cache_accepts_total{sub_cache=\"0\"} 15"));
  EXPECT_THAT(text, HasSubstr("weir_engine_sub_cache_swaps_total{sub_cache=\"1\"} 9"));
  EXPECT_THAT(text, HasSubstr("weir_engine_sub_cache_drops_total{sub_cache=\"1\"} 3"));
}

TEST(EngineMetricsTest, ANewEngineGoesOnCounting) {
  Metrics metrics("test");
  EngineMetrics engine(&metrics);
  engine.Update(Stats(3));
  engine.OnEngineEnd();
  EXPECT_THAT(metrics.Serialize(), HasSubstr("weir_engine_sessions_open 0"));
  EXPECT_THAT(metrics.Serialize(), HasSubstr("weir_engine_steps_total 30"));
  engine.Update(Stats(2));
  EXPECT_THAT(metrics.Serialize(), HasSubstr("weir_engine_steps_total 50"));
}

TEST(EngineMetricsTest, SaysNothingOfAllReducesThatAreOnlyEnqueued) {
  Metrics metrics("test");
  EngineMetrics engine(&metrics);
  EngineStats stats = Stats(1);
  stats.all_reduce_time.reset();
  engine.Update(stats);
  EXPECT_THAT(metrics.Serialize(), Not(HasSubstr("all_reduce")));
}

TEST(EngineMetricsTest, CountsTheTotalsOfARankOnceThroughItsEngines) {
  Metrics metrics("test");
  EngineMetrics engine(&metrics);
  engine.Update(Stats(3));
  engine.OnEngineEnd();
  // Those of the rank go on, but are not known before the first step.
  engine.Update({});
  engine.Update(Stats(4));
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("weir_engine_all_reduce_seconds_total 2"));
  EXPECT_THAT(text, HasSubstr("weir_engine_sub_cache_accepts_total{sub_cache=\"0\"} 20"));
  EXPECT_THAT(text, HasSubstr("weir_engine_steps_total 70"));
}

TEST(EngineMetricsTest, TimesAreCountedWhereTheyBelong) {
  Metrics metrics("test");
  EngineMetrics engine(&metrics);
  engine.OnStepPhase(StepPhase::kForward, absl::Milliseconds(4));
  engine.OnStepPhase(StepPhase::kDeliver, absl::Milliseconds(1));
  engine.OnQueueTime(absl::Seconds(2));
  engine.OnFirstToken(absl::Seconds(3));
  engine.OnNextToken(absl::Milliseconds(250));
  engine.OnRunEnd(RunKind::kGenerate, absl::StatusCode::kCancelled, absl::Seconds(9));
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("weir_engine_step_phase_seconds_sum{phase=\"forward\"} 0.004"));
  EXPECT_THAT(text, HasSubstr("weir_engine_step_phase_seconds_sum{phase=\"deliver\"} 0.001"));
  EXPECT_THAT(text, HasSubstr("weir_engine_queue_seconds_sum 2"));
  EXPECT_THAT(text, HasSubstr("weir_engine_time_to_first_token_seconds_sum 3"));
  EXPECT_THAT(text, HasSubstr("weir_engine_inter_token_seconds_sum 0.25"));
  EXPECT_THAT(text,
              HasSubstr("weir_engine_run_seconds_sum{code=\"CANCELLED\",kind=\"generate\"} 9"));
}

}  // namespace
}  // namespace weir
