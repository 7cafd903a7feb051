#ifndef WEIR_WORKER_ENGINE_STEP_VALIDATION_H_
#define WEIR_WORKER_ENGINE_STEP_VALIDATION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "cache/cascade_limits.h"
#include "kernels/cascade_config.h"
#include "worker/engine/step_plan.h"

namespace weir {

// What a rank holds between two steps, as far as it decides which plan may come next.
struct StepState {
  struct Slot {
    std::optional<CascadeConfig> cascade;  // not set: no session has begun here
    bool has_read = false;                 // tokens, so that logits follow
  };
  struct Chunk {
    int cache_slot = 0;
    int layers_left = 0;
  };

  int layers = 0;  // of the model
  int vocabulary = 0;
  CascadeLimits limits;
  std::vector<Slot> slots;
  std::optional<Chunk> chunk;  // in progress
};

// INTERNAL, naming what is wrong, unless `plan` can be executed in `state`.
absl::Status ValidateStepPlan(const StepPlan& plan, StepState state);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_VALIDATION_H_
