#ifndef WEIR_WORKER_ENGINE_STEP_PLAN_H_
#define WEIR_WORKER_ENGINE_STEP_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cascade_config.h"

namespace weir {

// A session begins in a slot; what the slot held before is forgotten.
struct SessionReset {
  int cache_slot = 0;
  CascadeConfig cascade;

  friend bool operator==(const SessionReset&, const SessionReset&) = default;
};

// What one session does in a step.
struct PlannedSequence {
  int cache_slot = 0;
  // Read these, 0 to stride of them; they become the step's next rows.
  std::vector<int32_t> tokens;
  // Then return the logits of the token that follows everything read.
  bool logits = false;
  // Return the log-probability of each of `tokens`, given everything before it.
  bool score = false;

  friend bool operator==(const PlannedSequence&, const PlannedSequence&) = default;
};

// Report what every KV head of a layer remembers, after the sequences have run.
struct Inspection {
  int cache_slot = 0;
  int layer = 0;

  friend bool operator==(const Inspection&, const Inspection&) = default;
};

// One step of a tensor-parallel group, as the leader plans it and every rank carries it out: plain
// data, the same on all ranks. Resets come first. A plan of nothing only shows that all are alive.
struct StepPlan {
  int64_t step = 0;   // counts up from 0
  bool stop = false;  // the leader ends; there is no further step
  std::vector<SessionReset> resets;
  std::vector<PlannedSequence> sequences;  // a session at most once
  std::optional<Inspection> inspection;

  bool empty() const { return resets.empty() && sequences.empty() && !inspection.has_value(); }

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// The bytes of a plan for Communicator::Broadcast: little-endian, a few bytes more than its tokens.
std::string SerializeStepPlan(const StepPlan& plan);

// INTERNAL, naming what is wrong, for bytes that SerializeStepPlan did not write. What it returns
// is well-formed; whether it makes sense for an engine is StepExecutor's to say.
absl::StatusOr<StepPlan> ParseStepPlan(absl::string_view bytes);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_PLAN_H_
