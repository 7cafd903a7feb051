#ifndef WEIR_WORKER_ENGINE_ENGINE_H_
#define WEIR_WORKER_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/cascade_config.h"
#include "worker/engine/debug_build.h"
#include "worker/engine/engine_stats.h"
#include "worker/engine/run.h"

namespace weir {

struct EngineOptions {
  // Sessions that have a cache at once. All their memory is allocated at start.
  int max_sessions = 8;
  // Runs (calls in progress) at once, queued ones included; one more is RESOURCE_EXHAUSTED.
  int max_runs = 64;
  // The largest settings a session may ask for, and the settings of one that does not ask.
  CascadeConfig cascade;
  // While generations run, a step has only so many layers of another run's chunk (at least one)
  // that it is over within this time, as far as the leader can foretell.
  absl::Duration token_gap = absl::Milliseconds(50);
  // The leader sends an empty step when idle for this long, so that peers and health see it alive.
  absl::Duration idle_step = absl::Seconds(1);
  // Ranks compare, before each step, what they are about to do; one that differs ends the group
  // with an error that names it. Costs two messages over TCP a step. The same on all ranks.
  bool check_ranks_agree = kDebugBuild;
  // Told what happens, if not null; outlives the engine.
  EngineObserver* observer = nullptr;
};

struct SessionStatus {
  CascadeConfig cascade;
  int64_t tokens_seen = 0;    // read and generated since the session began
  int64_t tokens_cached = 0;  // in slots now
  int64_t cache_bytes = 0;    // of this session on this rank, a constant
  bool running = false;       // a run holds the session
};

// What one KV head of one layer remembers, in age order, oldest first.
struct HeadMemory {
  int kv_head = 0;              // of the whole model
  std::vector<int64_t> tokens;  // stream index
  std::vector<float> scores;
  std::vector<int> sub_caches;  // -1: sink
};

// Runs one rank of a tensor-parallel group: keeps the sessions and the step loop, on a thread of
// its own. Made by Rank::StartEngine (worker/engine/rank.h). On rank 0, the leader, calls from any
// thread become runs; every step the leader plans (decodes of all running sessions, and layers of
// one prefill chunk), broadcasts the plan, and all ranks execute it. Other ranks only follow;
// there, calls fail with FAILED_PRECONDITION.
//
// A step is: plan -> broadcast -> for the decodes, then for the chunk, per layer {QKV, attend,
// admit, output, all-reduce, MLP, all-reduce} -> logits -> (leader) sample -> events to runs.
class Engine {
 public:
  virtual ~Engine() = default;  // Stops the loop; runs in progress end with CANCELLED.

  // ---- Leader only; any thread ----

  // ALREADY_EXISTS, INVALID_ARGUMENT (settings beyond the limits), RESOURCE_EXHAUSTED (no slot).
  virtual absl::Status OpenSession(const std::string& id, const CascadeConfig& cascade) = 0;
  // Ends a run of the session with CANCELLED and frees the slot. NOT_FOUND.
  virtual absl::Status CloseSession(const std::string& id) = 0;
  virtual absl::StatusOr<SessionStatus> Describe(const std::string& id) const = 0;
  // What each KV head of `layer` (all ranks' heads) remembers. NOT_FOUND, OUT_OF_RANGE.
  virtual absl::StatusOr<std::vector<HeadMemory>> Inspect(const std::string& id, int layer) = 0;

  // Begins a run. NOT_FOUND, FAILED_PRECONDITION (the session has a run already),
  // INVALID_ARGUMENT (sampling), RESOURCE_EXHAUSTED (queue full). A run that was destroyed just now
  // is waited for: it lets go of the session within a step.
  virtual absl::StatusOr<std::unique_ptr<Run>> StartRun(const std::string& id,
                                                        const RunOptions& options) = 0;

  // ---- Any rank; any thread ----

  // Steps finished since start; grows at least every `idle_step` while the group is well.
  virtual int64_t steps() const = 0;
  // Waits until this rank has prepared its steps together with the others, so that its engine runs.
  // If it cannot, why not: other than later errors, this one says whether it may pass.
  virtual absl::Status WaitUntilJoined() = 0;
  // OK while the loop runs; then why it ended (UNAVAILABLE: a rank was lost).
  virtual absl::Status health() const = 0;
  // 0 on followers.
  virtual int sessions_open() const = 0;
  virtual EngineStats stats() const = 0;
  // Ends the loop and every run with UNAVAILABLE(reason). Returns at once; the destructor joins.
  virtual void Abort(const std::string& reason) = 0;
  // Blocks until the loop has ended; returns health().
  virtual absl::Status Wait() = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_ENGINE_H_
