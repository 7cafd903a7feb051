#include "worker/engine/scheduler.h"

#include <tuple>

namespace weir {

ScheduledStep ScheduleStep(absl::Span<const StepCandidate> candidates, bool chunk_in_progress) {
  const auto turn = [&](int i) {
    return std::make_tuple(candidates[i].last_prefill_step, candidates[i].run);
  };
  ScheduledStep step;
  for (int i = 0; i < static_cast<int>(candidates.size()); ++i) {
    if (!candidates[i].prefill) {
      step.decodes.push_back(i);
    } else if (!chunk_in_progress && (!step.chunk.has_value() || turn(i) < turn(*step.chunk))) {
      step.chunk = i;
    }
  }
  return step;
}

}  // namespace weir
