#ifndef WEIR_WORKER_ENGINE_LAYER_BUDGET_H_
#define WEIR_WORKER_ENGINE_LAYER_BUDGET_H_

#include <array>
#include <optional>

#include "absl/time/time.h"

namespace weir {

// What one step, or several in a row, did.
struct StepWork {
  bool decodes = false;  // there were lanes
  int chunk_rows = 0;    // of the chunk whose layers ran
  int chunk_layers = 0;  // of it
  bool measured = true;  // false: it did more than this, so its time says nothing
  bool finished = true;  // all that was enqueued has run; false: it may still be running
};

// How long the parts of a step take: running means of what was observed. A chunk's layers are kept
// by the chunk's size, in classes of a factor two, because a layer takes some time however few rows
// it has. Not thread-safe.
class StepTimes {
 public:
  // This took so long.
  void Observe(const StepWork& work, absl::Duration time);

  // The decodes of a step; zero until known: the layers' times hold it until then.
  absl::Duration decodes() const { return decodes_.value_or(absl::ZeroDuration()); }
  // One layer of a chunk of `rows` rows; rather more than less where only other sizes were seen.
  // Nothing until a layer was seen.
  std::optional<absl::Duration> layer(int rows) const;

 private:
  static constexpr int kClasses = 32;  // 1, 2 to 3, 4 to 7, ... rows

  std::optional<absl::Duration> decodes_;
  std::array<std::optional<absl::Duration>, kClasses> layers_;
};

// How many of the `left` layers of a chunk of `rows` rows shall run beside decodes, so that the
// step is over within `gap` as far as can be foretold: at least 1, and no more than 1 while nothing
// is known.
int LayersWithin(absl::Duration gap, const StepTimes& times, int rows, int left);

// Observes steps one after the other. Some return before they have run, so only several of them
// together have a time. Not thread-safe.
class StepObserver {
 public:
  // A step is over, so long after the one before it.
  void OnStep(const StepWork& work, absl::Duration time);
  // There is nothing to do for a while, though steps may still run.
  void OnPause();

  const StepTimes& times() const { return times_; }

 private:
  StepTimes times_;
  // Of the steps since all had run.
  std::optional<StepWork> work_;
  absl::Duration time_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_LAYER_BUDGET_H_
