#include "worker/engine/layer_budget.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace weir {
namespace {

// How much of a mean an observation makes up.
constexpr double kWeight = 0.25;
// How far from what was foretold an observation counts; a longer step was held up by something
// else.
constexpr double kMostRatio = 4;
// Layers take at least this part of a step that decodes too, whatever decodes took before.
constexpr double kLeastShare = 1.0 / 16;

// Steps take some percent longer or shorter than the mean of those before: this part of the layers
// that would fit leaves room for that.
constexpr double kSafePart = 0.9;

int ClassOf(int rows) { return std::bit_width(static_cast<unsigned>(rows)) - 1; }

}  // namespace

void StepTimes::Observe(const StepWork& work, absl::Duration time) {
  if (work.chunk_layers == 0) {
    if (!work.decodes) return;
    const absl::Duration known = decodes_.value_or(time);
    decodes_ = known + kWeight * (std::clamp(time, known / kMostRatio, known * kMostRatio) - known);
    return;
  }
  const absl::Duration decodes = work.decodes ? this->decodes() : absl::ZeroDuration();
  std::optional<absl::Duration>& layer = layers_[ClassOf(work.chunk_rows)];
  if (!layer.has_value()) {
    layer = std::max(time - decodes, kLeastShare * time) / work.chunk_layers;
    return;
  }
  // Who of the two took longer than foretold cannot be told, and need not: their sum counts.
  const absl::Duration foretold = decodes + work.chunk_layers * *layer;
  const double ratio = std::clamp(absl::FDivDuration(time, foretold), 1 / kMostRatio, kMostRatio);
  const double factor = 1 + kWeight * (ratio - 1);
  *layer *= factor;
  if (work.decodes && decodes_.has_value()) *decodes_ *= factor;
}

std::optional<absl::Duration> StepTimes::layer(int rows) const {
  const int size = ClassOf(rows);
  const auto known = [](const std::optional<absl::Duration>& layer) { return layer.has_value(); };
  const auto larger = std::find_if(layers_.begin() + size, layers_.end(), known);
  if (larger != layers_.end()) return *larger;
  for (int smaller = size - 1; smaller >= 0; --smaller) {
    if (known(layers_[smaller])) return *layers_[smaller] * (int64_t{1} << (size - smaller));
  }
  return std::nullopt;
}

int LayersWithin(absl::Duration gap, const StepTimes& times, int rows, int left) {
  const std::optional<absl::Duration> layer = times.layer(rows);
  if (!layer.has_value()) return 1;
  const double fitting = absl::FDivDuration(gap - times.decodes(), *layer);
  return static_cast<int>(std::clamp<double>(kSafePart * fitting, 1, left));
}

void StepObserver::OnStep(const StepWork& work, absl::Duration time) {
  if (!work_.has_value()) {
    work_ = work;
    time_ = time;
  } else {
    const bool same_size =
        work_->chunk_layers == 0 || work.chunk_layers == 0 || work_->chunk_rows == work.chunk_rows;
    work_->decodes |= work.decodes;
    work_->chunk_rows = std::max(work_->chunk_rows, work.chunk_rows);
    work_->chunk_layers += work.chunk_layers;
    work_->measured &= work.measured && same_size;
    time_ += time;
  }
  if (!work.finished) return;
  if (work_->measured) times_.Observe(*work_, time_);
  work_.reset();
}

void StepObserver::OnPause() {
  if (work_.has_value()) work_->measured = false;
}

}  // namespace weir
