#ifndef WEIR_WORKER_ENGINE_STEP_PLAN_H_
#define WEIR_WORKER_ENGINE_STEP_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cascade_config.h"
#include "kernels/likeliest.h"

namespace weir {

// A session begins in a slot; what the slot held before is forgotten.
struct SessionReset {
  int cache_slot = 0;
  CascadeConfig cascade;

  friend bool operator==(const SessionReset&, const SessionReset&) = default;
};

// One session's lane of a step: it reads one token or none, and says what follows.
struct PlannedDecode {
  int cache_slot = 0;
  std::optional<int32_t> token;
  // Then return this of the logits of the token that follows everything read.
  std::optional<LikeliestRequest> next;

  friend bool operator==(const PlannedDecode&, const PlannedDecode&) = default;
};

// A chunk of one session's text, whose layers may run over several steps.
struct PlannedChunk {
  int cache_slot = 0;
  std::vector<int32_t> tokens;  // 1 to stride
  // After the last layer, return this of the logits of the token that follows everything read.
  std::optional<LikeliestRequest> next;
  // After the last layer, return the log-probability of each of `tokens`, given everything before
  // it.
  bool score = false;

  friend bool operator==(const PlannedChunk&, const PlannedChunk&) = default;
};

// Report what every KV head of a layer remembers, after the rest of the step has run.
struct Inspection {
  int cache_slot = 0;
  int layer = 0;

  friend bool operator==(const Inspection&, const Inspection&) = default;
};

// One step of a tensor-parallel group, as the leader plans it and every rank carries it out: plain
// data, the same on all ranks. A plan of nothing only shows that all are alive.
//
// At most one chunk is in progress: it begins in a plan that has `chunk`, goes on by every plan's
// `chunk_layers`, and is over with the model's last layer. Meanwhile its session does nothing else.
// A reset of its slot abandons it.
struct StepPlan {
  int64_t step = 0;   // counts up from 0
  bool stop = false;  // the leader ends; there is no further step
  // Come first.
  std::vector<SessionReset> resets;
  // A session at most once; those with a token come before those without.
  std::vector<PlannedDecode> decodes;
  // Begins in this step.
  std::optional<PlannedChunk> chunk;
  // Layers of the chunk in progress, or of the one that begins, that run in this step.
  int chunk_layers = 0;
  std::optional<Inspection> inspection;
  // Wait for the devices at the end, so that the step has run, and its faults are known, when it is
  // over. Not waiting lets the next step be enqueued behind this one; reading results waits anyway.
  bool synchronize = true;

  bool empty() const {
    return resets.empty() && decodes.empty() && chunk_layers == 0 && !inspection.has_value();
  }

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// The bytes of a plan for Communicator::Broadcast: little-endian, a few bytes more than its tokens.
std::string SerializeStepPlan(const StepPlan& plan);

// INTERNAL, naming what is wrong, for bytes that SerializeStepPlan did not write. What it returns
// is well-formed; whether it makes sense for an engine is ValidateStepPlan's to say.
absl::StatusOr<StepPlan> ParseStepPlan(absl::string_view bytes);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_PLAN_H_
