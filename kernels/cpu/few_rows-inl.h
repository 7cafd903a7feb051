// Quantised weights times a few activation rows, without unpacked weights in between: the shape of
// decoding. Compiled once per instruction set (include inside foreach_target).
//
// The same chains of multiply-adds, over the same unpacked weights, as TileGemm over a tile
// unpacked by DequantizeTile.

#if defined(WEIR_KERNELS_CPU_FEW_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_CPU_FEW_ROWS_INL_H_
#undef WEIR_KERNELS_CPU_FEW_ROWS_INL_H_
#else
#define WEIR_KERNELS_CPU_FEW_ROWS_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/dequantize_tile-inl.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

inline constexpr int kFewRows = 4;

// The activation rows of a product and where their results go.
struct FewRows {
  const float* x[kFewRows];
  float* out[kFewRows];
};

// Tiles computed together: enough independent sums to keep the multipliers busy.
constexpr int FewRowsTiles(int rows) {
  if (kTileVectors == 1) return 3;
  return kTileVectors == 2 && rows == 1 ? 2 : 1;
}

template <int kRows, int kVectors>
struct Sums {
  FloatVector vector[kRows][kVectors];
};

// sums += x[row][column] * w, for all rows.
template <int kRows, int kVectors>
HWY_INLINE void Accumulate(const FewRows& rows, int64_t column, int vector, FloatVector w,
                           Sums<kRows, kVectors>& sums) {
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
    sums.vector[row][vector] =
        hn::MulAdd(hn::Set(FloatTag(), rows.x[row][column]), w, sums.vector[row][vector]);
  }
}

// The nibbles at bit kShift of every tile's `words`, which are column `column`.
template <int kShift, int kRows, int kVectors>
HWY_INLINE void Q4Column(const FewRows& rows, int64_t column, const std::byte* words,
                         int64_t tile_bytes, const Q4Scale (&scales)[kVectors],
                         Sums<kRows, kVectors>& sums) {
#pragma GCC unroll 8
  for (int vector = 0; vector < kVectors; ++vector) {
    const std::byte* from = words + vector / kTileVectors * tile_bytes +
                            vector % kTileVectors * kLanes * sizeof(uint32_t);
    const auto p = hn::LoadU(WordTag(), reinterpret_cast<const uint32_t*>(from));
    Accumulate(rows, column, vector, Q4Value<kShift>(p, scales[vector]), sums);
  }
}

template <int kRows, int kTiles>
HWY_NOINLINE void Q4TimesFewRows(const std::byte* tiles, int64_t columns, const FewRows& rows,
                                 int64_t out_column) {
  constexpr int kVectors = kTiles * kTileVectors;
  const int64_t block_bytes = TileBytes(TileFormat::kQ4, kBlock);
  const int64_t tile_bytes = TileBytes(TileFormat::kQ4, columns);
  Sums<kRows, kVectors> sums;
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      sums.vector[row][vector] = hn::Zero(FloatTag());
    }
  }
  for (int64_t column = 0; column < columns; column += kBlock, tiles += block_bytes) {
    Q4Scale scales[kVectors];
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      scales[vector] =
          LoadQ4Scale(tiles + vector / kTileVectors * tile_bytes, vector % kTileVectors * kLanes);
    }
    const std::byte* words = tiles + 2 * kHalfLaneBytes;
    for (int word = 0; word < 4; ++word) {
      const std::byte* p = words + word * kTileLanes * sizeof(uint32_t);
      Q4Column<0>(rows, column + 4 * word, p, tile_bytes, scales, sums);
      Q4Column<8>(rows, column + 4 * word + 1, p, tile_bytes, scales, sums);
      Q4Column<16>(rows, column + 4 * word + 2, p, tile_bytes, scales, sums);
      Q4Column<24>(rows, column + 4 * word + 3, p, tile_bytes, scales, sums);
    }
    for (int word = 0; word < 4; ++word) {
      const std::byte* p = words + word * kTileLanes * sizeof(uint32_t);
      Q4Column<4>(rows, column + 4 * word + 16, p, tile_bytes, scales, sums);
      Q4Column<12>(rows, column + 4 * word + 17, p, tile_bytes, scales, sums);
      Q4Column<20>(rows, column + 4 * word + 18, p, tile_bytes, scales, sums);
      Q4Column<28>(rows, column + 4 * word + 19, p, tile_bytes, scales, sums);
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(sums.vector[row][vector], FloatTag(),
                 rows.out[row] + out_column + vector * kLanes);
    }
  }
}

template <int kRows, int kTiles>
HWY_NOINLINE void Q8TimesFewRows(const std::byte* tiles, int64_t columns, const FewRows& rows,
                                 int64_t out_column) {
  constexpr int kVectors = kTiles * kTileVectors;
  const int64_t block_bytes = TileBytes(TileFormat::kQ8, kBlock);
  const int64_t tile_bytes = TileBytes(TileFormat::kQ8, columns);
  Sums<kRows, kVectors> sums;
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      sums.vector[row][vector] = hn::Zero(FloatTag());
    }
  }
  for (int64_t column = 0; column < columns; column += kBlock, tiles += block_bytes) {
    FloatVector scales[kVectors];
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      scales[vector] = LoadHalves(tiles + vector / kTileVectors * tile_bytes +
                                  vector % kTileVectors * kLanes * sizeof(uint16_t));
    }
    const std::byte* values = tiles + kHalfLaneBytes;
#pragma GCC unroll 4
    for (int i = 0; i < kBlock; ++i, values += kTileLanes) {
#pragma GCC unroll 8
      for (int vector = 0; vector < kVectors; ++vector) {
        const FloatVector w =
            Q8Value(values + vector / kTileVectors * tile_bytes + vector % kTileVectors * kLanes,
                    scales[vector]);
        Accumulate(rows, column + i, vector, w, sums);
      }
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(sums.vector[row][vector], FloatTag(),
                 rows.out[row] + out_column + vector * kLanes);
    }
  }
}

// Tiles [first, first + count) of one quantised format, count up to FewRowsTiles(kRows).
template <int kRows>
void TilesTimesFewRows(const WeightTile& first, int count, int64_t columns, const FewRows& rows,
                       int64_t out_column) {
  constexpr int kMost = FewRowsTiles(kRows);
  const bool q4 = first.format == TileFormat::kQ4;
  if (count == kMost) {
    (q4 ? Q4TimesFewRows<kRows, kMost> : Q8TimesFewRows<kRows, kMost>)(first.data, columns, rows,
                                                                       out_column);
    return;
  }
  const int64_t tile_bytes = TileBytes(first.format, columns);
  for (int tile = 0; tile < count; ++tile) {
    (q4 ? Q4TimesFewRows<kRows, 1> : Q8TimesFewRows<kRows, 1>)(first.data + tile * tile_bytes,
                                                               columns, rows,
                                                               out_column + tile * kTileLanes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif
