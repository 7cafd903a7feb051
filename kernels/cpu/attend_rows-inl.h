// Attention of a block of rows over one KV head: probabilities, outputs and the sums of the
// probabilities' columns. Compiled once per instruction set (include inside foreach_target).

#if defined(WEIR_KERNELS_CPU_ATTEND_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_CPU_ATTEND_ROWS_INL_H_
#undef WEIR_KERNELS_CPU_ATTEND_ROWS_INL_H_
#else
#define WEIR_KERNELS_CPU_ATTEND_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/attention_task.h"
#include "kernels/cpu/exp-inl.h"
#include "kernels/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

inline constexpr float kMasked = -std::numeric_limits<float>::infinity();

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
inline void PrepareOwnKeys(const AttentionTask& task) {
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
inline void AttendRows(const AttentionTask& task, int first_row, int end_row, int block_rows,
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

#endif
