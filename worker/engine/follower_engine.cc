#include "worker/engine/follower_engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace weir {
namespace {

absl::Status NotTheLeader() {
  return absl::FailedPreconditionError("this worker is not its group's leader, which takes calls");
}

}  // namespace

FollowerEngine::FollowerEngine(const EngineOptions& options, Communicator* communicator,
                               StepExecutor* executor)
    : EngineBase(options, communicator, executor) {
  StartThread();
}

FollowerEngine::~FollowerEngine() { JoinThread(absl::ZeroDuration()); }

absl::Status FollowerEngine::Loop() {
  for (int64_t step = 0;; ++step) {
    absl::Time start = absl::Now();
    std::string bytes;
    if (absl::Status status = communicator_->Broadcast(bytes); !status.ok()) return status;
    absl::StatusOr<StepPlan> plan = ParseStepPlan(bytes);
    if (!plan.ok()) return plan.status();
    if (plan->stop) {
      stopped_ = true;
      return absl::UnavailableError("the group's leader has stopped");
    }
    if (plan->step != step) {
      return absl::InternalError(
          absl::StrCat("the leader is at step ", plan->step, ", this rank at step ", step));
    }
    if (!plan->empty()) ReportPhase(StepPhase::kBroadcast, start);
    absl::StatusOr<StepResult> result = ExecuteStep(*plan);
    if (!result.ok()) return result.status();
    if (!plan->empty()) ReportPhase(StepPhase::kForward, start);
  }
}

absl::Status FollowerEngine::OpenSession(const std::string&, const CascadeConfig&) {
  return NotTheLeader();
}

absl::Status FollowerEngine::CloseSession(const std::string&) { return NotTheLeader(); }

absl::StatusOr<SessionStatus> FollowerEngine::Describe(const std::string&) const {
  return NotTheLeader();
}

absl::StatusOr<std::vector<HeadMemory>> FollowerEngine::Inspect(const std::string&, int) {
  return NotTheLeader();
}

absl::StatusOr<std::unique_ptr<Run>> FollowerEngine::StartRun(const std::string&,
                                                              const RunOptions&) {
  return NotTheLeader();
}

}  // namespace weir
