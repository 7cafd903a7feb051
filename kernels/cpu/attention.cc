#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target includes this file again, once per instruction set.
#include "hwy/highway.h"
#include "kernels/cpu/attend_rows-inl.h"

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(PrepareOwnKeys);
HWY_EXPORT(AttendRows);

// Lines (rows times query heads) of a block: enough to reuse keys and values from the cache, few
// enough that the probabilities stay there.
int BlockRows(const AttentionTask& task) {
  constexpr int kMostLines = 48;
  constexpr int kFewestLines = 12;
  constexpr int kBlockFloats = 96 * 1024;
  const int lines = std::clamp(kBlockFloats / task.columns, kFewestLines, kMostLines);
  return std::max(1, lines / task.group);
}

// At most this many shares of the scores for one sequence and KV head.
constexpr int kMostSlabs = 16;

// Adds up the slabs' column sums (in the first slab's place), reduces them over the query heads and
// updates the scores.
void FinishScores(const AttentionTask& task, float* sums, int slabs, float* row_scores) {
  const int64_t size = int64_t{task.group} * task.columns;
  for (int slab = 1; slab < slabs; ++slab) {
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[slab * size + i];
  }
  const bool mean = task.step->cascade.head_reduction == HeadReduction::kMean;
  for (int head = 1; head < task.group; ++head) {
    const float* other = sums + int64_t{head} * task.columns;
    for (int i = 0; i < task.columns; ++i) {
      sums[i] = mean ? sums[i] + other[i] : std::max(sums[i], other[i]);
    }
  }
  if (mean) {
    for (int i = 0; i < task.columns; ++i) sums[i] /= static_cast<float>(task.group);
  }

  const double decay = std::pow(task.step->cascade.beta, task.step->rows);
  int column = 0;
  for (const KeySegment& segment : task.step->segments) {
    const float* from = sums + column + segment.first_slot % kTileLanes;
    float* scores = task.slots.scores + segment.first_slot;
    for (int i = 0; i < segment.slot_count; ++i) {
      scores[i] = static_cast<float>(decay * scores[i] + from[i]);
    }
    column += SegmentColumns(segment);
  }
  std::copy_n(sums + task.cached_columns, task.step->rows, row_scores);
}

}  // namespace

float* AttentionKernel::Plan(const CpuKvStorage& kv, int layer,
                             absl::Span<const SequenceStep> steps, Tensor qkv, Tensor out) {
  const KvShape& shape = kv.shape();
  const int group = shape.query_heads / shape.kv_heads;
  int64_t own_floats = 0;
  int64_t weight_floats = 0;
  for (const SequenceStep& step : steps) {
    own_floats += int64_t{RoundUpToTile(step.rows)} * shape.head_dim * shape.kv_heads;
    weight_floats += step.rows;
  }
  float* own_keys = own_keys_.Floats(own_floats);
  float* row_weights = row_weights_.Floats(weight_floats);

  tasks_.clear();
  slabs_.clear();
  first_slab_.clear();
  int64_t sums = 0;
  for (const SequenceStep& step : steps) {
    assert(step.rows > 0 && step.rows <= shape.max_stride);
    double weight = 1.0;
    for (int row = step.rows; row-- > 0; weight *= step.cascade.beta) {
      row_weights[row] = static_cast<float>(weight);
    }
    for (int kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      AttentionTask task;
      task.step = &step;
      task.rope = &kv.rope();
      task.head_dim = shape.head_dim;
      task.group = group;
      task.value_stride = kv.value_stride();
      task.slots = kv.head(step.cache_slot, layer, kv_head);
      task.cached_columns = 0;
      for (const KeySegment& segment : step.segments) {
        task.cached_columns += SegmentColumns(segment);
      }
      task.columns = task.cached_columns + RoundUpToTile(step.rows);
      const float* first_row = qkv.f32() + step.first_row * qkv.cols;
      task.queries = first_row + int64_t{kv_head} * group * shape.head_dim;
      task.keys = first_row + int64_t{shape.query_heads + kv_head} * shape.head_dim;
      task.values = task.keys + int64_t{shape.kv_heads} * shape.head_dim;
      task.qkv_stride = qkv.cols;
      task.out = out.f32() + step.first_row * out.cols + int64_t{kv_head} * group * shape.head_dim;
      task.out_stride = out.cols;
      task.own_keys = own_keys;
      own_keys += int64_t{RoundUpToTile(step.rows)} * shape.head_dim;
      task.row_weights = row_weights;

      const int block_rows = BlockRows(task);
      const int blocks = (step.rows + block_rows - 1) / block_rows;
      const int slabs = std::min(kMostSlabs, blocks);
      first_slab_.push_back(static_cast<int>(slabs_.size()));
      for (int slab = 0; slab < slabs; ++slab) {
        slabs_.push_back({static_cast<int>(tasks_.size()), blocks * slab / slabs * block_rows,
                          std::min(blocks * (slab + 1) / slabs * block_rows, step.rows), sums});
        sums += int64_t{group} * task.columns;
      }
      tasks_.push_back(task);
    }
    row_weights += step.rows;
  }
  first_slab_.push_back(static_cast<int>(slabs_.size()));
  return column_sums_.Floats(sums);
}

void AttentionKernel::Run(CpuKvStorage& kv, int layer, absl::Span<const SequenceStep> steps,
                          Tensor qkv, Tensor out, Tensor row_scores) {
  assert(qkv.cols == (kv.shape().query_heads + 2 * kv.shape().kv_heads) * kv.shape().head_dim);
  assert(out.cols == kv.shape().query_heads * kv.shape().head_dim);
  float* sums = Plan(kv, layer, steps, qkv, out);
  const auto attend = [&](const Slab& slab, int thread) {
    const AttentionTask& task = tasks_[slab.task];
    HWY_DYNAMIC_DISPATCH(AttendRows)
    (task, slab.first_row, slab.end_row, BlockRows(task), block_scratch_[thread],
     sums + slab.column_sums);
  };
  const auto finish = [&](int64_t index) {
    const AttentionTask& task = tasks_[index];
    const int kv_head = static_cast<int>(index % kv.shape().kv_heads);
    FinishScores(task, sums + slabs_[first_slab_[index]].column_sums,
                 first_slab_[index + 1] - first_slab_[index],
                 row_scores.f32() + kv_head * row_scores.cols + task.step->first_row);
  };

  const int64_t tasks = static_cast<int64_t>(tasks_.size());
  if (slabs_.size() == tasks_.size()) {  // only short steps, as when decoding
    pool_.For(tasks, [&](int64_t index, int thread) {
      HWY_DYNAMIC_DISPATCH(PrepareOwnKeys)(tasks_[index]);
      attend(slabs_[index], thread);
      finish(index);
    });
    return;
  }
  pool_.For(tasks, [&](int64_t index, int) {
    HWY_DYNAMIC_DISPATCH(PrepareOwnKeys)(tasks_[index]);
  });
  pool_.For(static_cast<int64_t>(slabs_.size()),
            [&](int64_t index, int thread) { attend(slabs_[index], thread); });
  pool_.For(tasks, [&](int64_t index, int) { finish(index); });
}

}  // namespace weir
#endif  // HWY_ONCE
