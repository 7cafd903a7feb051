#ifndef WEIR_WORKER_ENGINE_LEADER_ENGINE_H_
#define WEIR_WORKER_ENGINE_LEADER_ENGINE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "cache/kv_pool.h"
#include "worker/engine/engine_base.h"
#include "worker/engine/layer_budget.h"
#include "worker/engine/leader_session.h"
#include "worker/engine/scheduler.h"
#include "worker/model/tokenizer.h"

namespace weir {

// The engine of rank 0. A step:
//   1. under the lock, plan: end cancelled and complete runs, ask each session what comes next
//   2. broadcast the plan and execute it like every other rank
//   3. choose tokens from the logits
//   4. under the lock, count what was read and hand out events
//
// A chunk runs whole while nobody decodes. Beside decodes, a step runs as many of its layers as fit
// into EngineOptions::token_gap. A run that ends in the middle of its chunk leaves the rest of the
// chunk to the engine; only the end of its session abandons it.
//
// Whole chunks that follow one another are enqueued in pairs: of the first, progress is told when
// it is enqueued, one chunk early. A device's fault is told with the second.
class LeaderEngine : public EngineBase {
 public:
  LeaderEngine(const EngineOptions& options, Communicator* communicator, StepExecutor* executor,
               const Tokenizer* tokenizer);
  ~LeaderEngine() override;

  absl::Status OpenSession(const std::string& id, const CascadeConfig& cascade) override;
  absl::Status CloseSession(const std::string& id) override;
  absl::StatusOr<SessionStatus> Describe(const std::string& id) const override;
  absl::StatusOr<std::vector<HeadMemory>> Inspect(const std::string& id, int layer) override;
  absl::StatusOr<std::unique_ptr<Run>> StartRun(const std::string& id,
                                                const RunOptions& options) override;
  int sessions_open() const override;
  EngineStats stats() const override;

 private:
  using Sessions = absl::btree_map<std::string, std::shared_ptr<LeaderSession>>;

  // A call of Inspect that waits.
  struct InspectCall {
    std::shared_ptr<LeaderSession> session;
    int layer = 0;
    std::optional<absl::StatusOr<std::vector<HeadMemory>>> result;  // set: done
    bool done() const { return result.has_value(); }
  };
  // Who is meant by a part of a plan.
  struct Part {
    std::shared_ptr<LeaderSession> session;
    std::shared_ptr<ActiveRun> run;
  };
  struct Chunk {
    Part part;
    int tokens = 0;
    bool next = false;  // asked for
    bool score = false;
    int layers_left = 0;
  };
  struct Step {
    StepPlan plan;
    StepWork work;
    std::vector<Part> decodes;   // as in the plan
    std::optional<Chunk> chunk;  // that is over with this step
    std::shared_ptr<InspectCall> inspect_call;
  };

  absl::Status Loop() override;
  void OnLoopEnd(const absl::Status& why) override;

  // The next step. Nothing if there is nothing to do.
  std::optional<Step> PlanStep(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  void PlanRuns(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the session's run is up to; ends it if it was cancelled or is complete.
  LeaderSession::Action NextAction(LeaderSession& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The run takes part in a step.
  Part TakePart(const std::shared_ptr<LeaderSession>& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanDecodes(absl::Span<const std::shared_ptr<LeaderSession>> sessions, Step& step)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanChunkLayers(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanSynchronization(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanInspection(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChooseTokens(const Step& step, const StepResult& result);
  void Deliver(const Step& step, StepResult result) ABSL_LOCKS_EXCLUDED(mutex_);
  void DeliverPart(const Part& part, std::vector<float> scores)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<std::shared_ptr<LeaderSession>> Find(const std::string& id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the session's run with `status`.
  void EndRun(LeaderSession& session, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportRunEnd(const ActiveRun& run, absl::StatusCode code);
  void ReportToken(ActiveRun& run);
  int CountRuns() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Tokenizer* const tokenizer_;
  StepObserver step_observer_;  // engine's thread
  bool synchronized_ = true;    // by the latest step; engine's thread

  mutable absl::Mutex mutex_;
  Sessions sessions_ ABSL_GUARDED_BY(mutex_);
  KvPool pool_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<int, CascadeConfig> resets_
      ABSL_GUARDED_BY(mutex_);                          // by slot, for the next plan
  std::optional<Chunk> chunk_ ABSL_GUARDED_BY(mutex_);  // in progress after the steps planned
  // Those that wait; the first may be in a step.
  std::deque<std::shared_ptr<InspectCall>> inspect_calls_ ABSL_GUARDED_BY(mutex_);
  int64_t next_run_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t generated_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);  // what calls get once the loop has ended
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_LEADER_ENGINE_H_
