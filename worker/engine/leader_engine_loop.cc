// The loop of the leader: what happens on the engine's thread.

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "worker/engine/leader_engine.h"

namespace weir {
namespace {

// How often runs are asked whether they were cancelled while there is nothing to do.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(20);

}  // namespace

absl::Status LeaderEngine::Loop() {
  // Not the time of day, which may be set.
  auto last_step = std::chrono::steady_clock::now();
  for (int64_t number = 0;; ++number) {
    std::optional<Step> step;
    absl::Time start;
    while (true) {
      if (absl::Status status = aborted(); !status.ok()) return status;
      start = absl::Now();
      step = PlanStep(number);
      const bool idle =
          absl::FromChrono(std::chrono::steady_clock::now() - last_step) >= options_.idle_step;
      if (step.has_value() || idle) break;
      wake_->Wait(std::min(kCancelPoll, options_.idle_step));
    }
    if (!step.has_value()) {
      step.emplace();
      step->plan.step = number;
    }

    const bool report = !step->plan.empty();
    if (report) ReportPhase(StepPhase::kPlan, start);
    std::string bytes = SerializeStepPlan(step->plan);
    if (absl::Status status = communicator_->Broadcast(bytes); !status.ok()) return status;
    if (step->plan.stop) {
      stopped_ = true;
      return absl::CancelledError("the engine was stopped");
    }
    if (report) ReportPhase(StepPhase::kBroadcast, start);
    absl::StatusOr<StepResult> result = ExecuteStep(step->plan);
    if (!result.ok()) return result.status();
    if (report) ReportPhase(StepPhase::kForward, start);
    ChooseTokens(*step, *result);
    Deliver(*step, *std::move(result));
    if (report) ReportPhase(StepPhase::kDeliver, start);
    last_step = std::chrono::steady_clock::now();
  }
}

std::optional<LeaderEngine::Step> LeaderEngine::PlanStep(int64_t number) {
  absl::MutexLock lock(&mutex_);
  Step step;
  step.plan.step = number;
  step.plan.stop = stopping_;
  if (stopping_) return step;
  PlanSequences(step);
  PlanInspection(step);
  if (step.plan.sequences.empty() && step.inspect_call == nullptr) return std::nullopt;
  // Sessions that were opened begin when somebody needs a step.
  step.plan.resets = std::exchange(resets_, {});
  return step;
}

void LeaderEngine::PlanSequences(Step& step) {
  std::vector<StepCandidate> candidates;
  std::vector<std::pair<std::shared_ptr<LeaderSession>, LeaderSession::Action>> actions;
  for (const auto& [id, session] : sessions_) {
    if (session->run() == nullptr) continue;
    const ActiveRun& run = *session->run();
    if (run.channel->cancelled() || (run.options.cancelled && run.options.cancelled())) {
      EndRun(*session, absl::CancelledError("the call was cancelled"));
      continue;
    }
    const LeaderSession::Action action = session->NextAction();
    if (action == LeaderSession::Action::kWait) continue;
    if (action == LeaderSession::Action::kFinish) {
      const std::shared_ptr<ActiveRun> finished = session->run();
      const absl::Status status = session->FinishRun();
      if (status.ok()) {
        ReportRunEnd(*finished, absl::StatusCode::kOk);
      } else {
        EndRun(*session, status);
      }
      continue;
    }
    candidates.push_back({.run = run.number,
                          .prefill = action == LeaderSession::Action::kChunk,
                          .last_prefill_step = run.last_prefill_step});
    actions.emplace_back(session, action);
  }

  const absl::Time now = absl::Now();
  for (int chosen : ScheduleStep(candidates)) {
    const auto& [session, action] = actions[chosen];
    ActiveRun& run = *session->run();
    if (!run.stepped && options_.observer != nullptr) {
      options_.observer->OnQueueTime(now - run.start_time);
    }
    run.stepped = true;
    step.plan.sequences.push_back(session->Plan(action, step.plan.step));
    step.sessions.push_back(session);
    step.runs.push_back(session->run());
    if (action == LeaderSession::Action::kChunk) {
      prompt_tokens_ += static_cast<int64_t>(step.plan.sequences.back().tokens.size());
    }
  }
}

void LeaderEngine::PlanInspection(Step& step) {
  while (!inspect_calls_.empty() && step.inspect_call == nullptr) {
    const std::shared_ptr<InspectCall> call = inspect_calls_.front();
    // The session may have been closed since.
    const bool open = std::any_of(sessions_.begin(), sessions_.end(),
                                  [&](const auto& entry) { return entry.second == call->session; });
    if (!open) {
      call->result = absl::NotFoundError("the session was closed");
      inspect_calls_.pop_front();
      continue;
    }
    step.plan.inspection = Inspection{call->session->cache_slot(), call->layer};
    step.inspect_call = call;
  }
}

void LeaderEngine::ChooseTokens(const Step& step, const StepResult& result) {
  for (size_t i = 0; i < step.runs.size(); ++i) {
    const PlannedSequence& sequence = step.plan.sequences[i];
    if (!sequence.logits) continue;
    ActiveRun& run = *step.runs[i];
    run.outcome =
        run.generation->Next(result.sequences[i].logits, step.sessions[i]->NextIndex(sequence));
  }
}

void LeaderEngine::Deliver(const Step& step, StepResult result) {
  absl::MutexLock lock(&mutex_);
  for (size_t i = 0; i < step.sessions.size(); ++i) {
    LeaderSession& session = *step.sessions[i];
    ActiveRun& run = *step.runs[i];
    const bool running = session.run() != nullptr;
    if (running && run.outcome.has_value()) {
      ++generated_tokens_;
      ReportToken(run);
    }
    const absl::Status status =
        session.Deliver(step.plan.sequences[i], std::move(result.sequences[i]),
                        executor_->cache(session.cache_slot()).filled_slots());
    if (!status.ok()) {
      EndRun(session, status);
    } else if (running && session.run() == nullptr) {
      ReportRunEnd(run, absl::StatusCode::kOk);
    }
  }
  if (step.inspect_call != nullptr) {
    step.inspect_call->result = std::move(result.heads);
    inspect_calls_.pop_front();
  }
}

void LeaderEngine::ReportToken(ActiveRun& run) {
  const absl::Time now = absl::Now();
  if (options_.observer != nullptr) {
    if (run.generation->tokens_generated() == 1) {
      options_.observer->OnFirstToken(now - run.start_time);
    } else {
      options_.observer->OnNextToken(now - run.token_time);
    }
  }
  run.token_time = now;
}

void LeaderEngine::EndRun(LeaderSession& session, const absl::Status& status) {
  const std::shared_ptr<ActiveRun> run = session.run();
  session.EndRun(status);
  ReportRunEnd(*run, status.code());
}

void LeaderEngine::ReportRunEnd(const ActiveRun& run, absl::StatusCode code) {
  if (options_.observer == nullptr) return;
  options_.observer->OnRunEnd(run.options.kind, code, absl::Now() - run.start_time);
}

void LeaderEngine::OnLoopEnd(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  end_ = why;
  for (const auto& [id, session] : sessions_) {
    if (session->run() != nullptr) EndRun(*session, end_);
  }
  for (const std::shared_ptr<InspectCall>& call : inspect_calls_) call->result = end_;
  inspect_calls_.clear();
}

}  // namespace weir
