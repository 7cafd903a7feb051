#include "worker/engine/scheduler.h"

#include <tuple>

namespace weir {

std::vector<int> ScheduleStep(absl::Span<const StepCandidate> candidates) {
  const auto turn = [&](int i) {
    return std::make_tuple(candidates[i].last_prefill_step, candidates[i].run);
  };
  const int count = static_cast<int>(candidates.size());
  int prefill = -1;
  for (int i = 0; i < count; ++i) {
    if (candidates[i].prefill && (prefill < 0 || turn(i) < turn(prefill))) prefill = i;
  }
  std::vector<int> chosen;
  for (int i = 0; i < count; ++i) {
    if (!candidates[i].prefill || i == prefill) chosen.push_back(i);
  }
  return chosen;
}

}  // namespace weir
