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
    auto work_start = last_step;
    while (true) {
      if (absl::Status status = aborted(); !status.ok()) return status;
      start = absl::Now();
      step = PlanStep(number);
      const bool idle =
          absl::FromChrono(std::chrono::steady_clock::now() - last_step) >= options_.idle_step;
      if (step.has_value() || idle) break;
      step_observer_.OnPause();
      wake_->Wait(std::min(kCancelPoll, options_.idle_step));
      work_start = std::chrono::steady_clock::now();
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
    synchronized_ = step->plan.synchronize;
    last_step = std::chrono::steady_clock::now();
    step_observer_.OnStep(step->work, absl::FromChrono(last_step - work_start));
  }
}

std::optional<LeaderEngine::Step> LeaderEngine::PlanStep(int64_t number) {
  absl::MutexLock lock(&mutex_);
  Step step;
  step.plan.step = number;
  step.plan.stop = stopping_;
  if (stopping_) return step;
  PlanRuns(step);
  PlanChunkLayers(step);
  PlanInspection(step);
  if (step.plan.empty()) return std::nullopt;
  PlanSynchronization(step);
  // Sessions that were opened begin when somebody needs a step.
  for (const auto& [slot, cascade] : resets_) {
    step.plan.resets.push_back({.cache_slot = slot, .cascade = cascade});
  }
  resets_.clear();
  return step;
}

LeaderSession::Action LeaderEngine::NextAction(LeaderSession& session) {
  const std::shared_ptr<ActiveRun> run = session.run();
  if (run == nullptr) return LeaderSession::Action::kWait;
  if (run->channel->cancelled() || (run->options.cancelled && run->options.cancelled())) {
    EndRun(session, absl::CancelledError("the call was cancelled"));
    return LeaderSession::Action::kWait;
  }
  const LeaderSession::Action action = session.NextAction();
  if (action == LeaderSession::Action::kFinish) {
    if (absl::Status status = session.FinishRun(); status.ok()) {
      ReportRunEnd(*run, absl::StatusCode::kOk);
    } else {
      EndRun(session, status);
    }
  }
  return action;
}

void LeaderEngine::PlanRuns(Step& step) {
  std::vector<StepCandidate> candidates;
  std::vector<std::shared_ptr<LeaderSession>> sessions;  // by candidate
  for (const auto& [id, session] : sessions_) {
    const LeaderSession::Action action = NextAction(*session);
    const bool prefill = action == LeaderSession::Action::kChunk;
    if (!prefill && action != LeaderSession::Action::kDecode) continue;
    candidates.push_back({.run = session->run()->number,
                          .prefill = prefill,
                          .last_prefill_step = session->run()->last_prefill_step});
    sessions.push_back(session);
  }

  const ScheduledStep scheduled = ScheduleStep(candidates, chunk_.has_value());
  std::vector<std::shared_ptr<LeaderSession>> decoding;
  for (int decode : scheduled.decodes) decoding.push_back(sessions[decode]);
  PlanDecodes(decoding, step);
  if (scheduled.chunk.has_value()) {
    const std::shared_ptr<LeaderSession>& session = sessions[*scheduled.chunk];
    const Part part = TakePart(session);
    step.plan.chunk = session->PlanChunk(step.plan.step);
    chunk_ = {.part = part,
              .tokens = static_cast<int>(step.plan.chunk->tokens.size()),
              .next = step.plan.chunk->next.has_value(),
              .score = step.plan.chunk->score,
              .layers_left = executor_->layers()};
  }
}

void LeaderEngine::PlanDecodes(absl::Span<const std::shared_ptr<LeaderSession>> sessions,
                               Step& step) {
  std::vector<std::pair<Part, PlannedDecode>> lanes;
  for (const std::shared_ptr<LeaderSession>& session : sessions) {
    lanes.emplace_back(TakePart(session), session->PlanDecode());
  }
  std::stable_partition(lanes.begin(), lanes.end(),
                        [](const auto& lane) { return lane.second.token.has_value(); });
  for (auto& [part, decode] : lanes) {
    step.decodes.push_back(std::move(part));
    step.plan.decodes.push_back(decode);
  }
  step.work.decodes = !lanes.empty();
}

LeaderEngine::Part LeaderEngine::TakePart(const std::shared_ptr<LeaderSession>& session) {
  ActiveRun& run = *session->run();
  if (!run.stepped && options_.observer != nullptr) {
    options_.observer->OnQueueTime(absl::Now() - run.start_time);
  }
  run.stepped = true;
  return {session, session->run()};
}

void LeaderEngine::PlanChunkLayers(Step& step) {
  if (!chunk_.has_value()) return;
  const int layers = step.work.decodes ? LayersWithin(options_.token_gap, step_observer_.times(),
                                                      chunk_->tokens, chunk_->layers_left)
                                       : chunk_->layers_left;
  chunk_->layers_left -= layers;
  step.plan.chunk_layers = layers;
  step.work.chunk_rows = chunk_->tokens;
  step.work.chunk_layers = layers;
  if (chunk_->layers_left > 0) return;
  step.work.measured = !chunk_->score;
  step.chunk = std::exchange(chunk_, std::nullopt);
}

void LeaderEngine::PlanSynchronization(Step& step) {
  // The device is not left without work between two chunks, and never has more than two.
  const bool run_on = synchronized_ && step.decodes.empty() && step.chunk.has_value() &&
                      !step.chunk->next && !step.chunk->score && step.inspect_call == nullptr &&
                      step.chunk->part.session->reads_on();
  step.plan.synchronize = !run_on;
  step.work.finished = step.plan.synchronize;
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
    // Not between two layers of a chunk.
    if (chunk_.has_value() && chunk_->part.session == call->session) return;
    step.plan.inspection = Inspection{call->session->cache_slot(), call->layer};
    step.inspect_call = call;
    step.work.measured = false;
  }
}

void LeaderEngine::ChooseTokens(const Step& step, const StepResult& result) {
  const auto choose = [](const Part& part, const std::optional<LogitsSummary>& next) {
    if (!next.has_value()) return;
    part.run->outcome = part.run->generation->Next(*next, part.session->NextIndex());
  };
  for (size_t lane = 0; lane < step.decodes.size(); ++lane) {
    choose(step.decodes[lane], result.decodes[lane]);
  }
  if (step.chunk.has_value()) choose(step.chunk->part, result.chunk->next);
}

void LeaderEngine::Deliver(const Step& step, StepResult result) {
  absl::MutexLock lock(&mutex_);
  for (const Part& part : step.decodes) DeliverPart(part, {});
  if (step.chunk.has_value()) {
    prompt_tokens_ += step.chunk->tokens;
    DeliverPart(step.chunk->part, std::move(result.chunk->scores));
  }
  if (step.inspect_call != nullptr) {
    step.inspect_call->result = std::move(result.heads);
    inspect_calls_.pop_front();
  }
}

void LeaderEngine::DeliverPart(const Part& part, std::vector<float> scores) {
  LeaderSession& session = *part.session;
  const bool running = session.run() == part.run;
  if (running && part.run->outcome.has_value()) {
    ++generated_tokens_;
    ReportToken(*part.run);
  }
  const absl::Status status =
      session.Deliver(std::move(scores), executor_->cache(session.cache_slot()).filled_slots());
  if (!status.ok()) {
    EndRun(session, status);
  } else if (running && session.run() == nullptr) {
    ReportRunEnd(*part.run, absl::StatusCode::kOk);
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
