#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target includes this file again, once per instruction set.
#include "hwy/highway.h"
#include "kernels/cpu/dequantize_tile-inl.h"
#include "kernels/cpu/few_rows-inl.h"
#include "kernels/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// Tiles [begin, end) times every row of `runs`, by way of unpacked weights: `panel` holds
// kPanelTiles * kPanelColumns * 16 floats.
void MultiplyUnpacked(const PackedMatrix& weights, int64_t begin, int64_t end,
                      absl::Span<const RowGroup> runs, const float* x, float* out, float* panel) {
  const int64_t columns = weights.cols();
  for (int64_t tile = begin; tile < end; tile += kPanelTiles) {
    const int tiles = static_cast<int>(std::min(kPanelTiles, end - tile));
    for (int64_t column = 0; column < columns; column += kPanelColumns) {
      const int64_t depth = std::min(kPanelColumns, columns - column);
      for (int i = 0; i < tiles; ++i) {
        DequantizeTile(weights.tiles()[tile + i], column, column + depth,
                       panel + i * kPanelColumns * kTileLanes);
      }
      const TileOperand right = {panel, kTileLanes, kPanelColumns * kTileLanes};
      for (const RowGroup& run : runs) {
        TileGemm(run.rows, tiles, depth, x + run.first_row * columns + column, columns, right,
                 out + run.first_row * weights.rows() + tile * kTileLanes, weights.rows(),
                 column > 0);
      }
    }
  }
}

// The same for kRows rows, straight from quantised weights.
template <int kRows>
void MultiplyFewRows(const PackedMatrix& weights, int64_t begin, int64_t end, const FewRows& rows,
                     absl::Span<const RowGroup> runs, const float* x, float* out, float* panel) {
  for (int64_t tile = begin; tile < end;) {
    const WeightTile& first = weights.tiles()[tile];
    int count = 1;
    while (count < FewRowsTiles(kRows) && tile + count < end &&
           weights.tiles()[tile + count].format == first.format) {
      ++count;
    }
    if (first.format == TileFormat::kQ4 || first.format == TileFormat::kQ8) {
      TilesTimesFewRows<kRows>(first, count, weights.cols(), rows, tile * kTileLanes);
    } else {
      MultiplyUnpacked(weights, tile, tile + count, runs, x, out, panel);
    }
    tile += count;
  }
}

void MultiplyTiles(const PackedMatrix& weights, int64_t begin, int64_t end,
                   absl::Span<const RowGroup> runs, const float* x, float* out, float* panel) {
  int count = 0;
  for (const RowGroup& run : runs) count += run.rows;
  if (count > kFewRows) return MultiplyUnpacked(weights, begin, end, runs, x, out, panel);

  FewRows rows = {};
  int next = 0;
  for (const RowGroup& run : runs) {
    for (int row = run.first_row; row < run.first_row + run.rows; ++row) {
      rows.x[next] = x + row * weights.cols();
      rows.out[next++] = out + row * weights.rows();
    }
  }
  static_assert(kFewRows == 4);
  switch (count) {
    case 1:
      return MultiplyFewRows<1>(weights, begin, end, rows, runs, x, out, panel);
    case 2:
      return MultiplyFewRows<2>(weights, begin, end, rows, runs, x, out, panel);
    case 3:
      return MultiplyFewRows<3>(weights, begin, end, rows, runs, x, out, panel);
    case 4:
      return MultiplyFewRows<4>(weights, begin, end, rows, runs, x, out, panel);
  }
}

// The last tile of a matrix whose rows are no multiple of 16, for rows [0, rows) of x.
void MultiplyLastTile(const PackedMatrix& weights, int rows, const float* x, float* out,
                      float* panel) {
  constexpr int kChunkRows = 64;
  HWY_ALIGN float result[kChunkRows * kTileLanes];
  const int64_t columns = weights.cols();
  const int64_t tile = weights.tiles().size() - 1;
  const int64_t lanes = weights.rows() - tile * kTileLanes;
  for (int chunk = 0; chunk < rows; chunk += kChunkRows) {
    const int chunk_rows = std::min(kChunkRows, rows - chunk);
    for (int64_t column = 0; column < columns; column += kPanelColumns) {
      const int64_t depth = std::min(kPanelColumns, columns - column);
      DequantizeTile(weights.tiles()[tile], column, column + depth, panel);
      TileGemm(chunk_rows, 1, depth, x + chunk * columns + column, columns, {panel, kTileLanes, 0},
               result, kTileLanes, column > 0);
    }
    for (int row = 0; row < chunk_rows; ++row) {
      std::copy_n(result + row * kTileLanes, lanes,
                  out + (chunk + row) * weights.rows() + tile * kTileLanes);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(MultiplyTiles);
HWY_EXPORT(MultiplyLastTile);

constexpr int64_t kPanelFloats = kPanelTiles * kPanelColumns * kTileLanes;

}  // namespace

void MatMulKernel::Run(absl::Span<const RowGroup> groups, Tensor x, const PackedMatrix& weights,
                       Tensor out) {
  assert(x.cols == weights.cols());
  assert(out.cols == weights.rows());
  // Neighbouring groups are one run of rows.
  runs_.clear();
  for (const RowGroup& group : groups) {
    assert(group.first_row >= 0 && group.first_row + group.rows <= x.rows);
    if (!runs_.empty() && runs_.back().first_row + runs_.back().rows == group.first_row) {
      runs_.back().rows += group.rows;
    } else {
      runs_.push_back(group);
    }
  }
  for (Scratch& panel : panels_) panel.Floats(kPanelFloats);

  const int64_t whole_tiles = weights.rows() / kTileLanes;
  pool_.ForRanges(whole_tiles, kPanelTiles, [&](int64_t begin, int64_t end, int thread) {
    HWY_DYNAMIC_DISPATCH(MultiplyTiles)
    (weights, begin, end, runs_, x.f32(), out.f32(), panels_[thread].Floats(kPanelFloats));
  });
  if (weights.rows() % kTileLanes == 0) return;
  for (const RowGroup& run : runs_) {
    HWY_DYNAMIC_DISPATCH(MultiplyLastTile)
    (weights, run.rows, x.f32() + run.first_row * x.cols, out.f32() + run.first_row * out.cols,
     panels_[0].Floats(kPanelFloats));
  }
}

}  // namespace weir
#endif  // HWY_ONCE
