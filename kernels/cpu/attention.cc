#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target includes this file again, once per instruction set.
#include "hwy/highway.h"
#include "kernels/cpu/exp-inl.h"
#include "kernels/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// to[i * stride] = scale * `from` rotated by angle index `rotation`.
HWY_INLINE void Rotate(const RopeTable& rope, const float* HWY_RESTRICT from, int rotation,
                       float scale, float* HWY_RESTRICT to, int64_t stride) {
  const int half = rope.head_dim / 2;
  const float* HWY_RESTRICT cos = rope.cos.data() + int64_t{rotation} * half;
  const float* HWY_RESTRICT sin = rope.sin.data() + int64_t{rotation} * half;
  int i = 0;
  if (stride == 1) {
    const FloatTag tag;
    const FloatVector scales = hn::Set(tag, scale);
    for (; i + kLanes <= half; i += kLanes) {
      const FloatVector a = hn::Mul(hn::LoadU(tag, from + i), scales);
      const FloatVector b = hn::Mul(hn::LoadU(tag, from + half + i), scales);
      const FloatVector c = hn::LoadU(tag, cos + i);
      const FloatVector s = hn::LoadU(tag, sin + i);
      hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), tag, to + i);
      hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), tag, to + half + i);
    }
  }
  for (; i < half; ++i) {
    const float a = from[i] * scale;
    const float b = from[half + i] * scale;
    to[i * stride] = a * cos[i] - b * sin[i];
    to[(half + i) * stride] = b * cos[i] + a * sin[i];
  }
}

// The step's own keys as tiles; lanes past the last row are zero.
void PrepareOwnKeys(const AttentionTask& task) {
  const int rows = task.step->rows;
  std::fill_n(task.own_keys, int64_t{RoundUpToTile(rows)} * task.head_dim, 0.0f);
  for (int row = 0; row < rows; ++row) {
    Rotate(
        *task.rope, task.keys + row * task.qkv_stride, row, 1.0f,
        task.own_keys + int64_t{row / kTileLanes} * kTileLanes * task.head_dim + row % kTileLanes,
        kTileLanes);
  }
}

// The block's intermediate values, in one piece of scratch.
struct Block {
  int first_row;
  int rows;
  int height;       // rows * group: line (row - first_row) * group + head
  int own_columns;  // of the keys that the block's last row sees
  int64_t stride;   // floats between lines of `p`
  float* queries;   // [height][head_dim]
  float* result;    // [height][value_stride]
  float* p;         // [height][stride] scores, then exp(score - largest)
};

// Queries of the block's rows for keys stored with angles that start at `rotation`.
HWY_INLINE void RotateQueries(const AttentionTask& task, const Block& block, int rotation) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(task.head_dim));
  for (int row = 0; row < block.rows; ++row) {
    const int step_row = block.first_row + row;
    for (int head = 0; head < task.group; ++head) {
      Rotate(*task.rope, task.queries + step_row * task.qkv_stride + head * task.head_dim,
             rotation + step_row, scale,
             block.queries + int64_t{row * task.group + head} * task.head_dim, 1);
    }
  }
}

HWY_INLINE void QueriesTimesKeys(const AttentionTask& task, const Block& block) {
  const int64_t tile_floats = int64_t{task.head_dim} * kTileLanes;
  int column = 0;
  for (const KeySegment& segment : task.step->segments) {
    RotateQueries(task, block, segment.query_rotation);
    const int columns = SegmentColumns(segment);
    const int begin = segment.first_slot % kTileLanes;
    const int end = begin + segment.slot_count;
    TileGemm(
        block.height, columns / kTileLanes, task.head_dim, block.queries, task.head_dim,
        {task.slots.keys + segment.first_slot / kTileLanes * tile_floats, kTileLanes, tile_floats},
        block.p + column, block.stride, false);
    for (int line = 0; line < block.height; ++line) {
      float* p = block.p + line * block.stride + column;
      std::fill(p, p + begin, kMasked);
      std::fill(p + end, p + columns, kMasked);
    }
    column += columns;
  }
  RotateQueries(task, block, 0);
  TileGemm(block.height, block.own_columns / kTileLanes, task.head_dim, block.queries,
           task.head_dim, {task.own_keys, kTileLanes, tile_floats}, block.p + column, block.stride,
           false);
  for (int line = 0; line < block.height; ++line) {
    float* p = block.p + line * block.stride + column;
    std::fill(p + block.first_row + line / task.group + 1, p + block.own_columns, kMasked);
  }
}

// p = exp(p - largest), over `count` columns, a multiple of 16. Returns the sum.
HWY_INLINE float ExpAndSum(float* p, int count) {
  const FloatTag tag;
  // Maxima of every fourth vector, so that one load does not wait for another's comparison.
  FloatVector most[4];
  for (FloatVector& vector : most) vector = hn::Set(tag, kMasked);
  int i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) most[j] = hn::Max(most[j], hn::Load(tag, p + i + j * kLanes));
  }
  for (; i < count; i += kLanes) most[0] = hn::Max(most[0], hn::Load(tag, p + i));
  const FloatVector largest =
      hn::MaxOfLanes(tag, hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3])));

  FloatVector sum = hn::Zero(tag);
  for (i = 0; i < count; i += kLanes) {
    const FloatVector value = Exp(tag, hn::Sub(hn::Load(tag, p + i), largest));
    hn::Store(value, tag, p + i);
    sum = hn::Add(sum, value);
  }
  return hn::GetLane(hn::SumOfLanes(tag, sum));
}

// result (+)= p * values for `count` keys, a piece at a time that stays in the first cache.
HWY_INLINE void AddValues(const AttentionTask& task, const Block& block, const float* p, int count,
                          const float* values, int64_t stride, bool accumulate) {
  constexpr int kPiece = 96;
  for (int key = 0; key < count; key += kPiece) {
    TileGemm(block.height, task.value_stride / kTileLanes, std::min(kPiece, count - key), p + key,
             block.stride, {values + key * stride, stride, kTileLanes}, block.result,
             task.value_stride, accumulate || key > 0);
  }
}

HWY_INLINE void TimesValues(const AttentionTask& task, const Block& block) {
  int column = 0;
  for (const KeySegment& segment : task.step->segments) {
    AddValues(task, block, block.p + column + segment.first_slot % kTileLanes, segment.slot_count,
              task.slots.values + int64_t{segment.first_slot} * task.value_stride,
              task.value_stride, column > 0);
    column += SegmentColumns(segment);
  }
  // Own values are used where they are; a last tile that reaches into the next head is dropped.
  AddValues(task, block, block.p + column, block.first_row + block.rows, task.values,
            task.qkv_stride, column > 0);
}

// sums[column] += scales[i] * p[i * stride + column] for kRows rows i, in order.
template <int kRows>
HWY_INLINE void AddRows(const float* HWY_RESTRICT p, int64_t stride, const float* scales,
                        int64_t scale_stride, int columns, float* HWY_RESTRICT sums) {
  const FloatTag tag;
  FloatVector scale[kRows];
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) scale[row] = hn::Set(tag, scales[row * scale_stride]);
  for (int column = 0; column < columns; column += kLanes) {
    FloatVector sum = hn::Load(tag, sums + column);
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      sum = hn::MulAdd(scale[row], hn::Load(tag, p + row * stride + column), sum);
    }
    hn::Store(sum, tag, sums + column);
  }
}

// sums[head][column] += weight of the row * probability, over the block's rows in order.
HWY_INLINE void AddColumnSums(const AttentionTask& task, const Block& block, const float* scales,
                              int columns, float* sums) {
  const int group = task.group;
  for (int head = 0; head < group; ++head, sums += task.columns) {
    int row = 0;
    for (; row + 4 <= block.rows; row += 4) {
      const int line = row * group + head;
      AddRows<4>(block.p + line * block.stride, group * block.stride, scales + line, group, columns,
                 sums);
    }
    for (; row < block.rows; ++row) {
      const int line = row * group + head;
      AddRows<1>(block.p + line * block.stride, 0, scales + line, group, columns, sums);
    }
  }
}

// Floats between lines of probabilities: no two lines at the same place of a page, which would
// share sets of the first cache.
constexpr int64_t LineStride(int columns) {
  return columns % 1024 == 0 ? columns + kTileLanes : columns;
}

// Rows [first_row, end_row): writes their outputs and the [group][columns] sums of their columns.
void AttendRows(const AttentionTask& task, int first_row, int end_row, int block_rows,
                Scratch& scratch, float* sums) {
  std::fill_n(sums, int64_t{task.group} * task.columns, 0.0f);
  const int most = block_rows * task.group;
  const int64_t query_floats = RoundUpToTile(most * task.head_dim);
  const int64_t result_floats = int64_t{most} * task.value_stride;
  const int64_t stride = LineStride(task.columns);
  float* memory =
      scratch.Floats(query_floats + result_floats + RoundUpToTile(most) + most * stride);
  float* scales = memory + query_floats + result_floats;
  for (int row = first_row; row < end_row; row += block_rows) {
    Block block;
    block.first_row = row;
    block.rows = std::min(block_rows, end_row - row);
    block.height = block.rows * task.group;
    block.own_columns = RoundUpToTile(row + block.rows);
    block.stride = stride;
    block.queries = memory;
    block.result = memory + query_floats;
    block.p = scales + RoundUpToTile(most);

    QueriesTimesKeys(task, block);
    const int columns = task.cached_columns + block.own_columns;
    for (int line = 0; line < block.height; ++line) {
      scales[line] = 1.0f / ExpAndSum(block.p + line * stride, columns);
    }
    TimesValues(task, block);
    for (int line = 0; line < block.height; ++line) {
      const int step_row = row + line / task.group;
      const float* result = block.result + int64_t{line} * task.value_stride;
      float* out = task.out + step_row * task.out_stride + line % task.group * task.head_dim;
      for (int i = 0; i < task.head_dim; ++i) out[i] = result[i] * scales[line];
      scales[line] *= task.row_weights[step_row];
    }
    AddColumnSums(task, block, scales, columns, sums);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

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
