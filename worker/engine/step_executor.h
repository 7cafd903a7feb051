#ifndef WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_
#define WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "kernels/backend.h"
#include "kernels/likeliest_merge.h"
#include "worker/comm/communicator.h"
#include "worker/engine/chunk_pass.h"
#include "worker/engine/debug_build.h"
#include "worker/engine/decode_pass.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_stats.h"
#include "worker/engine/step_plan.h"
#include "worker/model/llama.h"

namespace weir {

// What a step yields, on rank 0; empty on other ranks.
struct StepResult {
  struct Chunk {
    std::optional<LogitsSummary> next;  // if asked for
    std::vector<float> scores;  // [tokens], if asked for; NaN for a session's very first token
  };
  std::vector<std::optional<LogitsSummary>> decodes;  // as the plan's; what comes next, if asked
  std::optional<Chunk> chunk;                         // the chunk that is over with this step
  std::vector<HeadMemory> heads;  // of the inspection, if any: all KV heads of the layer
};

// Carries out step plans on one rank: owns the sessions' caches, the activations of the two passes
// of a step (decodes, and layers of a chunk) and, for every session, the model's output at the last
// token it read, from which the next token's logits are made whenever they are wanted. All memory
// is allocated by Create. Every rank of the group executes the same plans in the same order. Not
// thread-safe.
class StepExecutor {
 public:
  // Room for `sessions` sessions, none larger than `largest`. INVALID_ARGUMENT when `largest`
  // exceeds the model's positions, RESOURCE_EXHAUSTED when memory does not suffice. `model`
  // outlives this object. `check_ranks_agree`: see EngineOptions.
  static absl::StatusOr<std::unique_ptr<StepExecutor>> Create(const LlamaModel* model, int sessions,
                                                              const CascadeConfig& largest,
                                                              bool check_ranks_agree = kDebugBuild);

  // What a session may ask for.
  const CascadeLimits& limits() const { return limits_; }
  int sessions() const { return static_cast<int>(caches_.size()); }
  int layers() const { return model_->config().layers; }

  // Joins the ranks anew: forgets all sessions and prepares what the device can. Comes before the
  // first step, and again when the ranks of the group have found each other again; all ranks call
  // it at once. `communicator` lives until LeaveGroup. Errors of the device.
  absl::Status JoinGroup(Communicator* communicator);
  // The last step is over: lets go of the communicator.
  void LeaveGroup();

  // INTERNAL, naming what is wrong, unless `plan` can be executed now.
  absl::Status Validate(const StepPlan& plan) const;

  // Executes a plan that passes Validate. Without StepPlan::synchronize it may return before the
  // step has run; what was wrong then is told by a later step. Any error is the end: ranks may
  // differ after it. If ranks are checked and are not about to do the same, every rank returns
  // INTERNAL before it does anything (CheckRanksAgree).
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);

  // The cache of a session that a reset began. A chunk counts when its last layer is enqueued.
  const KvCache& cache(int cache_slot) const { return *caches_[cache_slot]; }
  // Bytes that one session's cache takes on this rank, a constant.
  int64_t session_bytes() const { return session_bytes_; }
  // Bytes of the backend's memory that one more session takes: its cache, and what each session has
  // besides.
  int64_t bytes_per_session() const;
  // Totals since start. Waits for the device.
  std::vector<SubCacheStats> SubCacheTotals() const;
  // Since start, by the host's clock; none where the device has a stream, on which all-reduces are
  // only enqueued: the host does not see how long they take.
  std::optional<absl::Duration> all_reduce_time() const {
    if (model_->backend().stream() != nullptr) return std::nullopt;
    return decodes_->all_reduce_time() + chunk_->all_reduce_time();
  }

 private:
  StepExecutor(const LlamaModel* model, bool check_ranks_agree)
      : model_(model), check_ranks_agree_(check_ranks_agree) {}

  absl::Status AllocateSessions(int sessions, const CascadeConfig& largest);
  void DeriveSequences(const StepPlan& plan);
  absl::Status CheckOthersAgree(const StepPlan& plan);
  absl::Status RunDecodes();
  absl::Status RunChunk(const StepPlan& plan, StepResult& result);
  absl::Status ReadNext(const StepPlan& plan, StepResult& result);
  // Adds what so many layers do with these tokens to the totals, when they are enqueued.
  void Count(const SequenceStep& sequence, int layers);
  absl::StatusOr<std::vector<HeadMemory>> Inspect(const Inspection& inspection);

  const LlamaModel* model_;
  const bool check_ranks_agree_;
  Communicator* communicator_ = nullptr;
  CascadeLimits limits_;
  int64_t session_bytes_ = 0;
  std::unique_ptr<KvStorage> kv_;
  Tensor last_rows_;  // [sessions, hidden] the model's output at each session's last token
  std::unique_ptr<DecodePass> decodes_;
  std::unique_ptr<ChunkPass> chunk_;
  std::vector<std::optional<KvCache>> caches_;  // by slot

  std::vector<int32_t> lane_tokens_;  // of the step that is being executed
  std::vector<SequenceStep> lanes_;
  std::vector<std::optional<LikeliestRequest>> lane_requests_;
  SequenceStep new_chunk_;  // if a chunk begins

  std::vector<int64_t> arrivals_;  // by level, over all steps and layers, of one head
  std::vector<int64_t> accepts_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STEP_EXECUTOR_H_
