#ifndef WEIR_WORKER_ENGINE_LEADER_SESSION_H_
#define WEIR_WORKER_ENGINE_LEADER_SESSION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/cascade_config.h"
#include "worker/engine/generation.h"
#include "worker/engine/input_queue.h"
#include "worker/engine/run.h"
#include "worker/engine/run_channel.h"
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
//   1. the token generated last, which no step has read yet: a lane with a token
//   2. the chunks of texts given to it
//   3. in a generation, a token from the logits of the last row read, which may be of an earlier
//   run: a lane without a token
//
// What was planned is delivered before anything else is planned. A chunk may take many steps, and
// its run may end and another begin meanwhile: the chunk is read to its end all the same, and the
// other run waits for it.
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
    kWait,    // nothing to do until the caller feeds or reads, or the chunk in progress is over
    kDecode,  // a lane with a token or without
    kChunk,   // a chunk
    kFinish,  // the run is complete
  };
  // Takes over what was fed and says what the run is up to.
  Action NextAction();

  // This session's part of a step, for kDecode and for kChunk, which begins in step `step`.
  PlannedDecode PlanDecode();
  PlannedChunk PlanChunk(int64_t step);
  // Stream index of the token that what is planned may yield.
  int64_t NextIndex() const { return tokens_read_ + static_cast<int64_t>(planned_->tokens.size()); }
  // Whether the run has another chunk already, behind the one that is planned.
  bool reads_on() const { return run_ != nullptr && input_.NextChunk(cascade_.stride) > 0; }

  // What was planned is done and, if its run still runs, its outcome taken. Counts what was read;
  // hands out the events. `scores` are of the chunk's tokens, if it asked for them. Returns OK,
  // kFinished included, or why the run must end.
  absl::Status Deliver(std::vector<float> scores, int64_t tokens_cached);

  // Ends the run: complete for kFinish, FAILED_PRECONDITION where there is nothing to generate
  // from.
  absl::Status FinishRun();
  // Ends the run with an error.
  void EndRun(const absl::Status& status);

 private:
  struct Planned {
    std::shared_ptr<ActiveRun> run;  // for which it was planned
    std::vector<int32_t> tokens;
    int64_t own = 0;     // of them, the run's own input
    bool score = false;  // the run is told their scores
  };

  void TakeInput();
  bool input_read() const { return run_->input_closed && input_.empty(); }
  // What the run must know of the token behind what is planned.
  std::optional<LikeliestRequest> RequestNext() const;
  void CompleteRun(RunEvent finished);

  const int cache_slot_;
  const CascadeConfig cascade_;
  InputQueue input_;
  std::optional<int32_t> pending_token_;  // generated, not read yet
  int64_t tokens_read_ = 0;               // by the model
  int64_t tokens_cached_ = 0;
  std::shared_ptr<ActiveRun> run_;
  std::optional<Planned> planned_;  // not delivered yet
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_LEADER_SESSION_H_
