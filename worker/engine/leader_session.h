#ifndef WEIR_WORKER_ENGINE_LEADER_SESSION_H_
#define WEIR_WORKER_ENGINE_LEADER_SESSION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/cascade_config.h"
#include "worker/engine/generation.h"
#include "worker/engine/input_queue.h"
#include "worker/engine/run.h"
#include "worker/engine/run_channel.h"
#include "worker/engine/step_executor.h"
#include "worker/engine/step_plan.h"
#include "worker/model/tokenizer.h"

namespace weir {

// A run in progress, as the engine sees it. `outcome` and `generation` belong to the engine's
// thread; everything else to whoever holds the engine's lock.
struct ActiveRun {
  int64_t number = 0;  // counts up over the engine's life
  RunOptions options;
  std::shared_ptr<RunChannel> channel;
  absl::Time start_time;
  absl::Time token_time;  // of the latest generated token

  bool input_closed = false;
  int64_t leftover = 0;     // tokens yet to be read that earlier runs left to this one
  int64_t tokens_read = 0;  // of this run's own input
  int64_t last_prefill_step = -1;
  bool stepped = false;  // it has been in a step

  std::optional<Generation> generation;  // kGenerate
  // What the latest step's logits led to.
  std::optional<absl::StatusOr<Generation::Outcome>> outcome;
};

// A session on the leader: what it has read, what it is to read, the run that it is in. What comes
// next in a session:
//
//   1. the token generated last, which no step has read yet: a step of one row
//   2. the chunks of texts given to it
//   3. in a generation, a token from the logits of the last row read, which may be of an earlier
//   run
//
// Not thread-safe; under the engine's lock.
class LeaderSession {
 public:
  LeaderSession(int cache_slot, const CascadeConfig& cascade)
      : cache_slot_(cache_slot), cascade_(cascade) {}

  int cache_slot() const { return cache_slot_; }
  const CascadeConfig& cascade() const { return cascade_; }
  // Read and generated.
  int64_t tokens_seen() const { return tokens_read_ + (pending_token_.has_value() ? 1 : 0); }
  int64_t tokens_cached() const { return tokens_cached_; }
  const std::shared_ptr<ActiveRun>& run() const { return run_; }

  // There must be no run.
  void StartRun(std::shared_ptr<ActiveRun> run);

  enum class Action {
    kWait,    // nothing to do until the caller feeds or reads
    kRow,     // a step with one row or none
    kChunk,   // a step with a chunk
    kFinish,  // the run is complete
  };
  // Takes over what was fed and says what the run is up to.
  Action NextAction();

  // This session's part of step `step` for kRow or kChunk.
  PlannedSequence Plan(Action action, int64_t step);
  // Stream index of the token that `sequence`, planned last, may yield.
  int64_t NextIndex(const PlannedSequence& sequence) const {
    return tokens_read_ + static_cast<int64_t>(sequence.tokens.size());
  }

  // The planned step was executed and, if the run still runs, its outcome taken. Counts what was
  // read; hands out the events. Returns OK, kFinished included, or why the run must end.
  absl::Status Deliver(const PlannedSequence& sequence, StepResult::Sequence result,
                       int64_t tokens_cached);

  // Ends the run: complete for kFinish, FAILED_PRECONDITION where there is nothing to generate
  // from.
  absl::Status FinishRun();
  // Ends the run with an error.
  void EndRun(const absl::Status& status);

 private:
  void TakeInput();
  bool input_read() const { return run_->input_closed && input_.empty(); }
  void CompleteRun(RunEvent finished);

  const int cache_slot_;
  const CascadeConfig cascade_;
  InputQueue input_;
  std::optional<int32_t> pending_token_;  // generated, not read yet
  int64_t tokens_read_ = 0;               // by the model
  int64_t tokens_cached_ = 0;
  int64_t planned_own_ = 0;  // tokens of the planned step that are the run's own input
  std::shared_ptr<ActiveRun> run_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_LEADER_SESSION_H_
