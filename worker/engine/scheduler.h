#ifndef WEIR_WORKER_ENGINE_SCHEDULER_H_
#define WEIR_WORKER_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace weir {

// A run that could take part in the next step.
struct StepCandidate {
  int64_t run = 0;                 // number of the run; runs that started later have higher ones
  bool prefill = false;            // it has a chunk of input to read; else a single row or none
  int64_t last_prefill_step = -1;  // step of its latest chunk; -1: none yet
};

// Which candidates take part in the next step, as ascending indices: all that do not prefill, and
// of those that do the one whose latest chunk is the longest ago, of equals the one that started
// first. So running answers wait for one chunk at most, and prefilling runs take turns. A step has
// at most a row for every other session and one chunk.
std::vector<int> ScheduleStep(absl::Span<const StepCandidate> candidates);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_SCHEDULER_H_
