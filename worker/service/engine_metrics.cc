#include "worker/service/engine_metrics.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "monitoring/buckets.h"

namespace weir {
namespace {

// Adds what a total has grown by; a total that shrank is a new engine's and began at 0.
template <typename T>
void AddGrowth(T last, T now, prometheus::Counter& counter) {
  counter.Increment(static_cast<double>(now >= last ? now - last : now));
}

std::string Name(StepPhase phase) {
  switch (phase) {
    case StepPhase::kPlan:
      return "plan";
    case StepPhase::kBroadcast:
      return "broadcast";
    case StepPhase::kForward:
      return "forward";
    case StepPhase::kDeliver:
      return "deliver";
  }
  return "unknown";
}

std::string Name(RunKind kind) {
  switch (kind) {
    case RunKind::kAppend:
      return "append";
    case RunKind::kGenerate:
      return "generate";
    case RunKind::kScore:
      return "score";
  }
  return "unknown";
}

}  // namespace

EngineMetrics::EngineMetrics(Metrics* metrics)
    : metrics_(metrics),
      steps_(metrics->AddCounter("weir_engine_steps_total", "Steps finished.")),
      prompt_tokens_(metrics->AddCounter("weir_engine_prompt_tokens_total", "Tokens read.")),
      generated_tokens_(
          metrics->AddCounter("weir_engine_generated_tokens_total", "Tokens generated.")),
      runs_running_(
          metrics->AddGauge("weir_engine_runs_running", "Calls that take part in steps.")),
      runs_waiting_(
          metrics->AddGauge("weir_engine_runs_waiting", "Calls that wait for their first step.")),
      sessions_open_(metrics->AddGauge("weir_engine_sessions_open", "Session slots used.")),
      session_capacity_(metrics->AddGauge("weir_engine_session_capacity", "Session slots.")),
      slots_filled_(metrics->AddGauge("weir_engine_cache_slots_filled",
                                      "Tokens that the open sessions have in their caches.")),
      slot_capacity_(metrics->AddGauge("weir_engine_cache_slot_capacity",
                                       "Tokens that the caches of all sessions hold at most.")),
      cache_bytes_(metrics->AddGauge("weir_engine_cache_bytes",
                                     "Memory of all session caches on this rank, a constant.")),
      accepts_(metrics->AddCounters("weir_engine_sub_cache_accepts_total",
                                    "Arrivals at a sub-cache that took a slot of their own.")),
      swaps_(metrics->AddCounters("weir_engine_sub_cache_swaps_total",
                                  "Arrivals that took the slot of a sub-cache's newest token.")),
      drops_(metrics->AddCounters("weir_engine_sub_cache_drops_total",
                                  "Arrivals at a sub-cache that were forgotten.")),
      step_phase_seconds_(metrics->AddHistograms("weir_engine_step_phase_seconds",
                                                 "Time of one phase of a step with work in it.")),
      queue_seconds_(metrics->AddHistogram("weir_engine_queue_seconds",
                                           "Time from a call's start to its first step.",
                                           WaitSecondsBuckets())),
      first_token_seconds_(metrics->AddHistogram(
          "weir_engine_time_to_first_token_seconds",
          "Time from a generation's start to its first token.", WaitSecondsBuckets())),
      inter_token_seconds_(metrics->AddHistogram("weir_engine_inter_token_seconds",
                                                 "Time between two tokens of a generation.",
                                                 StepSecondsBuckets())),
      run_seconds_(metrics->AddHistograms("weir_engine_run_seconds",
                                          "Time of a call in the engine, from start to end.")) {}

void EngineMetrics::Update(const EngineStats& stats) {
  AddGrowth(last_.steps, stats.steps, steps_);
  AddGrowth(last_.prompt_tokens, stats.prompt_tokens, prompt_tokens_);
  AddGrowth(last_.generated_tokens, stats.generated_tokens, generated_tokens_);
  if (stats.all_reduce_time) UpdateAllReduceTime(*stats.all_reduce_time);
  if (!stats.sub_caches.empty()) UpdateSubCaches(stats.sub_caches);
  SetLevels(stats);
  last_ = stats;
}

void EngineMetrics::SetLevels(const EngineStats& stats) {
  runs_running_.Set(stats.runs_running);
  runs_waiting_.Set(stats.runs_waiting);
  sessions_open_.Set(stats.sessions_open);
  session_capacity_.Set(stats.session_capacity);
  slots_filled_.Set(static_cast<double>(stats.slots_filled));
  slot_capacity_.Set(static_cast<double>(stats.slot_capacity));
  cache_bytes_.Set(static_cast<double>(stats.cache_bytes));
}

void EngineMetrics::UpdateAllReduceTime(absl::Duration time) {
  AddGrowth(absl::ToDoubleSeconds(last_all_reduce_time_), absl::ToDoubleSeconds(time),
            metrics_->AddCounter("weir_engine_all_reduce_seconds_total",
                                 "Time spent in all-reduces with the other ranks. Only of workers "
                                 "on a CPU: a GPU does them while its host goes on."));
  last_all_reduce_time_ = time;
}

void EngineMetrics::UpdateSubCaches(const std::vector<SubCacheStats>& stats) {
  for (size_t level = 0; level < stats.size(); ++level) {
    const SubCacheStats last =
        level < last_sub_caches_.size() ? last_sub_caches_[level] : SubCacheStats();
    const prometheus::Labels labels = {{"sub_cache", absl::StrCat(level)}};
    AddGrowth(last.accepts, stats[level].accepts, accepts_.Add(labels));
    AddGrowth(last.swaps, stats[level].swaps, swaps_.Add(labels));
    AddGrowth(last.drops, stats[level].drops, drops_.Add(labels));
  }
  last_sub_caches_ = stats;
}

void EngineMetrics::OnStepPhase(StepPhase phase, absl::Duration time) {
  step_phase_seconds_.Add({{"phase", Name(phase)}}, StepSecondsBuckets())
      .Observe(absl::ToDoubleSeconds(time));
}

void EngineMetrics::OnQueueTime(absl::Duration time) {
  queue_seconds_.Observe(absl::ToDoubleSeconds(time));
}

void EngineMetrics::OnFirstToken(absl::Duration time) {
  first_token_seconds_.Observe(absl::ToDoubleSeconds(time));
}

void EngineMetrics::OnNextToken(absl::Duration time) {
  inter_token_seconds_.Observe(absl::ToDoubleSeconds(time));
}

void EngineMetrics::OnRunEnd(RunKind kind, absl::StatusCode code, absl::Duration time) {
  run_seconds_
      .Add({{"kind", Name(kind)}, {"code", absl::StatusCodeToString(code)}}, CallSecondsBuckets())
      .Observe(absl::ToDoubleSeconds(time));
}

}  // namespace weir
