#ifndef WEIR_WORKER_ENGINE_ENGINE_STATS_H_
#define WEIR_WORKER_ENGINE_ENGINE_STATS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/engine/run.h"

namespace weir {

// What became of the arrivals at one sub-cache level, in all layers and KV heads of this rank and
// all sessions since start.
struct SubCacheStats {
  int64_t accepts = 0;  // took a slot of their own
  int64_t swaps = 0;    // took the slot of the newest token
  int64_t drops = 0;    // forgotten
};

// One rank's engine at some moment; at most about a second old. What followers cannot know is 0.
struct EngineStats {
  int64_t steps = 0;
  int64_t prompt_tokens = 0;     // read since start
  int64_t generated_tokens = 0;  // since start
  int runs_running = 0;          // leader: runs that have been in a step
  int runs_waiting = 0;          // leader: runs that have not yet
  int sessions_open = 0;
  int session_capacity = 0;
  int64_t slots_filled = 0;               // cached tokens of all open sessions
  int64_t slot_capacity = 0;              // slots of all sessions that can be open
  int64_t cache_bytes = 0;                // of all sessions that can be open, on this rank
  std::vector<SubCacheStats> sub_caches;  // by level
  // Since start, host clock; none where all-reduces are only enqueued.
  std::optional<absl::Duration> all_reduce_time;
};

// Parts of a step.
enum class StepPhase {
  kPlan,       // deciding what to do
  kBroadcast,  // telling the other ranks; on a follower, waiting for the leader
  kForward,    // the model, logits included
  kDeliver,    // sampling and handing out events; leader only
};

// Told what happens as it happens, for metrics. Called on the engine's thread, perhaps while it
// holds the engine's lock: return fast and do not call the engine.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;

  // A part of a step with work in it took this long.
  virtual void OnStepPhase(StepPhase phase, absl::Duration time) = 0;
  // A run waited this long from its start to its first step.
  virtual void OnQueueTime(absl::Duration time) = 0;
  // A generation's first token came this long after the run's start.
  virtual void OnFirstToken(absl::Duration time) = 0;
  // A later token came this long after the one before it.
  virtual void OnNextToken(absl::Duration time) = 0;
  // A run ended this long after its start. OK: it finished; else how it failed.
  virtual void OnRunEnd(RunKind kind, absl::StatusCode code, absl::Duration time) = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_ENGINE_STATS_H_
