#ifndef WEIR_WORKER_ENGINE_ENGINE_BASE_H_
#define WEIR_WORKER_ENGINE_ENGINE_BASE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_stats.h"
#include "worker/engine/run_channel.h"
#include "worker/engine/step_executor.h"

namespace weir {

// What the engines of leader and followers have in common: the thread, how it ends, the counters.
class EngineBase : public Engine {
 public:
  int64_t steps() const override { return steps_.load(std::memory_order_relaxed); }
  absl::Status health() const override;
  absl::Status Wait() override;
  absl::Status WaitUntilJoined() override;
  void Abort(const std::string& reason) override;
  EngineStats stats() const override;

 protected:
  EngineBase(const EngineOptions& options, Communicator* communicator, StepExecutor* executor);

  // The loop, on the engine's thread, once the executor has joined the group. Returns why it ended,
  // which is not OK. Unless it sets `stopped_`, the communicator is aborted then, so that no other
  // rank waits for this one, and the reason becomes UNAVAILABLE.
  virtual absl::Status Loop() = 0;
  // The loop has ended with `why`; on the engine's thread, before Wait returns.
  virtual void OnLoopEnd(const absl::Status& why) {}

  void StartThread();
  // Waits for the thread; if it has not ended after `patience`, aborts the communicator. The
  // destructor of a derived class calls this first.
  void JoinThread(absl::Duration patience);

  // UNAVAILABLE once Abort was called.
  absl::Status aborted() const;

  // Validates, executes and counts a step; on the engine's thread.
  absl::StatusOr<StepResult> ExecuteStep(const StepPlan& plan);
  // Tells the observer, if any, how long a phase took that began at `start` and ends now, and sets
  // `start` to now.
  void ReportPhase(StepPhase phase, absl::Time& start);

  const EngineOptions options_;
  Communicator* const communicator_;
  StepExecutor* const executor_;
  const std::shared_ptr<WakeSignal> wake_ = std::make_shared<WakeSignal>();
  bool stopped_ = false;  // all ranks know that the loop ends; engine's thread

 private:
  void RunThread();
  void RefreshStats();

  std::atomic<int64_t> steps_ = 0;
  mutable absl::Mutex state_mutex_;
  absl::Status health_ ABSL_GUARDED_BY(state_mutex_);
  std::optional<absl::Status> joined_ ABSL_GUARDED_BY(state_mutex_);  // what became of joining
  bool ended_ ABSL_GUARDED_BY(state_mutex_) = false;
  absl::Status aborted_ ABSL_GUARDED_BY(state_mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(state_mutex_);  // the part that is the same on followers

  absl::Time stats_time_ = absl::InfinitePast();  // engine's thread
  std::thread thread_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_ENGINE_BASE_H_
