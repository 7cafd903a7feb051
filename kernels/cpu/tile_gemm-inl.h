// C = A * B for a row-major A and a B made of tiles of 16 columns, compiled once per instruction
// set (include inside foreach_target).
//
// Every element of C is one chain of multiply-adds over k in ascending order, whatever the other
// rows and columns are: results do not depend on how work is grouped.

#if defined(WEIR_KERNELS_CPU_TILE_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_CPU_TILE_GEMM_INL_H_
#undef WEIR_KERNELS_CPU_TILE_GEMM_INL_H_
#else
#define WEIR_KERNELS_CPU_TILE_GEMM_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "hwy/highway.h"
#include "kernels/cpu/packed_matrix.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, kTileLanes>;
using FloatVector = hn::Vec<FloatTag>;
inline constexpr int kLanes = hn::MaxLanes(FloatTag());
inline constexpr int kTileVectors = kTileLanes / kLanes;

// B as seen by a product: element (k, 16 * t + l) is data[k * k_stride + t * tile_stride + l].
struct TileOperand {
  const float* data;
  int64_t k_stride;
  int64_t tile_stride;
};

// Rows computed together, at most, and then how many tiles: as many as registers can accumulate.
// AVX-512 has 32 registers, the others have 16.
inline constexpr int kMaxRows = kTileVectors == 1   ? 8
                                : kTileVectors == 2 ? 6
                                : kTileVectors == 4 ? 2
                                                    : 1;
constexpr int TilesAtOnce(int rows) {
  if (kTileVectors == 1) return rows <= 6 ? 4 : 3;
  if (kTileVectors == 2) return rows == 1 ? 3 : rows == 2 ? 3 : rows == 3 ? 2 : 1;
  return 1;
}

template <int kRows, int kTiles>
HWY_INLINE void TileKernel(int64_t depth, const float* HWY_RESTRICT a, int64_t a_stride,
                           TileOperand b, float* HWY_RESTRICT c, int64_t c_stride,
                           bool accumulate) {
  constexpr int kVectors = kTiles * kTileVectors;
  const FloatTag tag;
  FloatVector sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      sum[row][vector] =
          accumulate ? hn::LoadU(tag, c + row * c_stride + vector * kLanes) : hn::Zero(tag);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    FloatVector right[kVectors];
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      right[vector] =
          hn::LoadU(tag, b.data + k * b.k_stride + vector / kTileVectors * b.tile_stride +
                             vector % kTileVectors * kLanes);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const FloatVector left = hn::Set(tag, a[row * a_stride + k]);
#pragma GCC unroll 8
      for (int vector = 0; vector < kVectors; ++vector) {
        sum[row][vector] = hn::MulAdd(left, right[vector], sum[row][vector]);
      }
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(sum[row][vector], tag, c + row * c_stride + vector * kLanes);
    }
  }
}

// Up to TilesAtOnce(kRows) tiles.
template <int kRows>
HWY_NOINLINE void TileRows(int tiles, int64_t depth, const float* a, int64_t a_stride,
                           TileOperand b, float* c, int64_t c_stride, bool accumulate) {
  constexpr int kMost = TilesAtOnce(kRows);
  if (kMost >= 4 && tiles == 4) {
    TileKernel<kRows, std::min(4, kMost)>(depth, a, a_stride, b, c, c_stride, accumulate);
  } else if (kMost >= 3 && tiles == 3) {
    TileKernel<kRows, std::min(3, kMost)>(depth, a, a_stride, b, c, c_stride, accumulate);
  } else if (kMost >= 2 && tiles == 2) {
    TileKernel<kRows, std::min(2, kMost)>(depth, a, a_stride, b, c, c_stride, accumulate);
  } else {
    TileKernel<kRows, 1>(depth, a, a_stride, b, c, c_stride, accumulate);
  }
}

using TileRowsFunction = void (*)(int tiles, int64_t depth, const float* a, int64_t a_stride,
                                  TileOperand b, float* c, int64_t c_stride, bool accumulate);

template <int... kIndex>
constexpr std::array<TileRowsFunction, sizeof...(kIndex)> TileRowsTable(
    std::integer_sequence<int, kIndex...>) {
  return {TileRows<kIndex + 1>...};
}

// By rows - 1.
inline constexpr auto kTileRows = TileRowsTable(std::make_integer_sequence<int, kMaxRows>());

// C[rows][16 * tiles] = A[rows][depth] * B, added to C if `accumulate`. Strides count floats.
inline void TileGemm(int rows, int tiles, int64_t depth, const float* a, int64_t a_stride,
                     TileOperand b, float* c, int64_t c_stride, bool accumulate) {
  if (rows == 0 || tiles == 0) return;
  // Four tiles are better computed together, six rows high, than as three and one, eight rows high.
  const int most = kTileVectors == 1 && tiles % 4 == 0 && tiles % 3 != 0 ? 6 : kMaxRows;
  // Row blocks of nearly equal height: nine rows are five and four, not eight and one.
  const int blocks = (rows + most - 1) / most;
  const int tallest = (rows + blocks - 1) / blocks;
  const int step = TilesAtOnce(tallest);
  for (int tile = 0; tile < tiles; tile += step) {
    const TileOperand right = {b.data + tile * b.tile_stride, b.k_stride, b.tile_stride};
    for (int block = 0; block < blocks; ++block) {
      const int begin = rows * block / blocks;
      const int end = rows * (block + 1) / blocks;
      kTileRows[end - begin - 1](std::min(step, tiles - tile), depth, a + begin * a_stride,
                                 a_stride, right, c + begin * c_stride + tile * kTileLanes,
                                 c_stride, accumulate);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif
