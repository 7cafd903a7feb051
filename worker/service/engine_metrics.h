#ifndef WEIR_WORKER_SERVICE_ENGINE_METRICS_H_
#define WEIR_WORKER_SERVICE_ENGINE_METRICS_H_

#include <vector>

#include "absl/time/time.h"
#include "monitoring/metrics.h"
#include "worker/engine/engine_stats.h"

namespace weir {

// What a worker's engine does, as Prometheus metrics: `weir_engine_*`. Times come as they happen,
// totals and levels when Update is called. Goes on counting when the engine is made again.
class EngineMetrics : public EngineObserver {
 public:
  // `metrics` outlives this.
  explicit EngineMetrics(Metrics* metrics);

  // Takes over what an engine tells of itself. One thread.
  void Update(const EngineStats& stats);
  // There is no engine now: levels are 0, totals stay.
  void OnEngineEnd() { SetLevels({}); }

  void OnStepPhase(StepPhase phase, absl::Duration time) override;
  void OnQueueTime(absl::Duration time) override;
  void OnFirstToken(absl::Duration time) override;
  void OnNextToken(absl::Duration time) override;
  void OnRunEnd(RunKind kind, absl::StatusCode code, absl::Duration time) override;

 private:
  void SetLevels(const EngineStats& stats);
  void UpdateAllReduceTime(absl::Duration time);
  void UpdateSubCaches(const std::vector<SubCacheStats>& stats);

  Metrics* const metrics_;  // for what not every engine tells
  prometheus::Counter& steps_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& generated_tokens_;
  prometheus::Gauge& runs_running_;
  prometheus::Gauge& runs_waiting_;
  prometheus::Gauge& sessions_open_;
  prometheus::Gauge& session_capacity_;
  prometheus::Gauge& slots_filled_;
  prometheus::Gauge& slot_capacity_;
  prometheus::Gauge& cache_bytes_;
  prometheus::Family<prometheus::Counter>& accepts_;
  prometheus::Family<prometheus::Counter>& swaps_;
  prometheus::Family<prometheus::Counter>& drops_;
  prometheus::Family<prometheus::Histogram>& step_phase_seconds_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& first_token_seconds_;
  prometheus::Histogram& inter_token_seconds_;
  prometheus::Family<prometheus::Histogram>& run_seconds_;

  EngineStats last_;  // of the last Update
  // Totals of the rank, which outlives its engines: as they were last told.
  absl::Duration last_all_reduce_time_;
  std::vector<SubCacheStats> last_sub_caches_;
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_ENGINE_METRICS_H_
