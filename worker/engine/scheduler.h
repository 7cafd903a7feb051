#ifndef WEIR_WORKER_ENGINE_SCHEDULER_H_
#define WEIR_WORKER_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

namespace weir {

// A run that could take part in the next step.
struct StepCandidate {
  int64_t run = 0;                 // number of the run; runs that started later have higher ones
  bool prefill = false;            // it has a chunk of input to read; else a single row or none
  int64_t last_prefill_step = -1;  // step in which its latest chunk began; -1: none yet
};

// Which candidates take part in the next step, as indices.
struct ScheduledStep {
  std::vector<int> decodes;  // ascending
  std::optional<int> chunk;  // begins its chunk
};

// All candidates that do not prefill take part in every step. Chunks are read one at a time: unless
// one is in progress, the candidate begins one whose latest is the longest ago, of equals the one
// that started first. So prefilling runs take turns by whole chunks.
ScheduledStep ScheduleStep(absl::Span<const StepCandidate> candidates, bool chunk_in_progress);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_SCHEDULER_H_
