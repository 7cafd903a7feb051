#ifndef WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_
#define WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "kernels/backend.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_stats.h"
#include "worker/engine/step_plan.h"
#include "worker/model/llama.h"
#include "worker/model/llama_head.h"

namespace weir {

// What a step yields, on rank 0; empty on other ranks.
struct StepResult {
  struct Sequence {
    std::vector<float> logits;  // [vocabulary], if asked for
    std::vector<float> scores;  // [tokens], if asked for; NaN for a session's very first token
  };
  std::vector<Sequence> sequences;  // as in the plan
  std::vector<HeadMemory> heads;    // of the inspection, if any: all KV heads of the layer
};

// Carries out step plans on one rank: owns the sessions' caches, activations and, for every
// session, the model's output at the last token it read, from which the next token's logits are
// made whenever they are wanted. All memory is allocated by Create. Every rank of the group
// executes the same plans in the same order. Not thread-safe.
class StepExecutor {
 public:
  // Room for `sessions` sessions, none larger than `largest`, and a chunk of one of them beside a
  // token of each. INVALID_ARGUMENT when `largest` exceeds the model's positions,
  // RESOURCE_EXHAUSTED when memory does not suffice. `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<StepExecutor>> Create(const LlamaModel* model, int sessions,
                                                              const CascadeConfig& largest);

  // What a session may ask for.
  const CascadeLimits& limits() const { return limits_; }
  int sessions() const { return static_cast<int>(caches_.size()); }
  int layers() const { return model_->config().layers; }
  // Rows of one step, all sequences together.
  int max_rows() const { return sessions() + limits_.stride; }

  // Joins the ranks anew: forgets all sessions. Comes before the first step, and again when the
  // ranks of the group have found each other again. `communicator` outlives the steps.
  void JoinGroup(Communicator* communicator);

  // INTERNAL, naming what is wrong, unless `plan` can be executed now.
  absl::Status Validate(const StepPlan& plan) const;

  // Executes a plan that passes Validate. Any error is the end: ranks may differ after it.
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);

  // The cache of a session that a reset began.
  const KvCache& cache(int cache_slot) const { return *caches_[cache_slot]; }
  // Bytes that one session's cache takes on this rank, a constant.
  int64_t session_bytes() const { return session_bytes_; }
  // Totals since start. Waits for the device.
  std::vector<SubCacheStats> SubCacheTotals() const;
  absl::Duration all_reduce_time() const { return forward_->all_reduce_time(); }

 private:
  explicit StepExecutor(const LlamaModel* model) : model_(model) {}

  absl::Status ValidateSequence(const PlannedSequence& sequence,
                                const std::vector<std::optional<CascadeConfig>>& cascades) const;
  absl::Status RunModel(const StepPlan& plan, StepResult& result);
  absl::StatusOr<std::vector<float>> Score(const PlannedSequence& sequence,
                                           const SequenceStep& step);
  void Commit();
  absl::Status ComputeLogits(const StepPlan& plan, StepResult& result);
  absl::StatusOr<std::vector<HeadMemory>> Inspect(const Inspection& inspection);

  const LlamaModel* model_;
  Communicator* communicator_ = nullptr;
  CascadeLimits limits_;
  int64_t session_bytes_ = 0;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<LlamaForward> forward_;
  std::unique_ptr<DeviceStep> device_step_;
  std::unique_ptr<LlamaHead> head_;
  Tensor last_rows_;  // [sessions, hidden] the model's output at each session's last token
  Tensor head_rows_;  // [max_rows, hidden] rows for the head, gathered
  std::vector<std::optional<KvCache>> caches_;  // by slot

  // Of the step that is being executed.
  std::vector<int32_t> tokens_;
  std::vector<SequenceStep> steps_;  // of the sequences with tokens

  std::vector<int64_t> arrivals_;  // by level, over all steps, of one head
  std::vector<int64_t> accepts_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_
