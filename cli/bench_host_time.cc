#include "cli/bench_host_time.h"

namespace weir {

BenchHostTime::Total BenchHostTime::total() const {
  absl::MutexLock lock(&mutex_);
  return total_;
}

void BenchHostTime::OnStepPhase(StepPhase phase, absl::Duration time) {
  if (phase == StepPhase::kPlan) step_ = absl::ZeroDuration();
  if (phase != StepPhase::kForward) step_ += time;
  if (phase != StepPhase::kDeliver) return;
  absl::MutexLock lock(&mutex_);
  ++total_.steps;
  total_.time += step_;
}

}  // namespace weir
