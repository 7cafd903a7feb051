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
#include "cache/kv_pool.h"
#include "worker/engine/engine_base.h"
#include "worker/engine/leader_session.h"
#include "worker/engine/scheduler.h"
#include "worker/model/tokenizer.h"

namespace weir {

// The engine of rank 0. A step:
//   1. under the lock, plan: end cancelled and complete runs, ask each session what comes next
//   2. broadcast the plan and execute it like every other rank
//   3. choose tokens from the logits
//   4. under the lock, count what was read and hand out events
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
  // A plan, and who is meant by its sequences and its inspection.
  struct Step {
    StepPlan plan;
    std::vector<std::shared_ptr<LeaderSession>> sessions;  // by sequence
    std::vector<std::shared_ptr<ActiveRun>> runs;          // by sequence
    std::shared_ptr<InspectCall> inspect_call;
  };

  absl::Status Loop() override;
  void OnLoopEnd(const absl::Status& why) override;

  // The next step. Nothing if there is nothing to do.
  std::optional<Step> PlanStep(int64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  void PlanSequences(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlanInspection(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChooseTokens(const Step& step, const StepResult& result);
  void Deliver(const Step& step, StepResult result) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<std::shared_ptr<LeaderSession>> Find(const std::string& id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the session's run with `status`.
  void EndRun(LeaderSession& session, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportRunEnd(const ActiveRun& run, absl::StatusCode code);
  void ReportToken(ActiveRun& run);
  int CountRuns() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Tokenizer* const tokenizer_;

  mutable absl::Mutex mutex_;
  Sessions sessions_ ABSL_GUARDED_BY(mutex_);
  KvPool pool_ ABSL_GUARDED_BY(mutex_);
  std::vector<SessionReset> resets_ ABSL_GUARDED_BY(mutex_);  // for the next plan
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
