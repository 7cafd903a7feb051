#ifndef WEIR_WORKER_ENGINE_STEP_DIGEST_H_
#define WEIR_WORKER_ENGINE_STEP_DIGEST_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/sequence_step.h"
#include "worker/engine/step_plan.h"

namespace weir {

// What one rank is about to do in a step: the leader's plan and what this rank's own counters make
// of it, which has to be the same on all ranks.
struct DerivedStep {
  const StepPlan& plan;
  absl::Span<const SequenceStep> decodes;  // by the plan's decodes
  // Of the chunk that begins or is in progress; null if there is none.
  const SequenceStep* chunk = nullptr;
  int chunk_layers_left = 0;  // before the step
};

// 64 bits over all of it, the same in every process. No guard against malice. Takes time in
// proportion to the plan's tokens and the sequences' slots in the cascade.
uint64_t DigestOf(const DerivedStep& step);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_DIGEST_H_
