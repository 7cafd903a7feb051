#ifndef WEIR_TESTS_WORKER_ENGINE_STEP_GATE_H_
#define WEIR_TESTS_WORKER_ENGINE_STEP_GATE_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/engine/engine_stats.h"

namespace weir {

// Makes an engine go step by step: as the observer of a group's engines, it stops the leader after
// every step with work in it. Thread-safe.
class StepGate : public EngineObserver {
 public:
  ~StepGate() override { Open(); }

  // Waits until the leader has made a step and stands still.
  void AwaitStep() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&standing_));
  }
  // Lets the leader make `steps` more steps, and waits for them.
  void Step(int steps = 1) {
    for (int i = 0; i < steps; ++i) {
      AwaitStep();
      {
        absl::MutexLock lock(&mutex_);
        standing_ = false;
        ++permits_;
      }
      AwaitStep();
    }
  }
  // The leader does not stop any more.
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  void OnStepPhase(StepPhase phase, absl::Duration) override {
    if (phase != StepPhase::kDeliver) return;  // of the leader alone, which holds no lock here
    absl::MutexLock lock(&mutex_);
    standing_ = true;
    mutex_.Await(absl::Condition(this, &StepGate::MayGo));
    if (!open_) --permits_;
    standing_ = false;
  }
  void OnQueueTime(absl::Duration) override {}
  void OnFirstToken(absl::Duration) override {}
  void OnNextToken(absl::Duration) override {}
  void OnRunEnd(RunKind, absl::StatusCode, absl::Duration) override {}

 private:
  bool MayGo() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_ || permits_ > 0; }

  absl::Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  bool standing_ ABSL_GUARDED_BY(mutex_) = false;
  int permits_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_ENGINE_STEP_GATE_H_
