#ifndef WEIR_KERNELS_CPU_PACKED_MATRIX_H_
#define WEIR_KERNELS_CPU_PACKED_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/thread_pool.h"

namespace weir {

// Outputs (matrix rows) of one tile: the lanes of one AVX-512 vector, of two AVX2 vectors.
inline constexpr int kTileLanes = 16;

// How the weights of 16 matrix rows are interleaved, lane l being the tile's row l:
//
//   kF32, kF16, kBF16   [cols][16]
//   kQ8                 per 32 columns: f16 d[16]; int8 q[32][16]               w = d * q
//   kQ4                 per 32 columns: f16 d[16]; f16 m[16]; uint32 p[4][16]   w = d * q + m
//
// In kQ4, nibble 2 * i of p[j] is column 4 * j + i and nibble 2 * i + 1 is column 4 * j + i + 16:
// the bytes of the file's blocks, kept whole.
enum class TileFormat : uint8_t { kF32, kF16, kBF16, kQ8, kQ4 };

// Bytes of a tile of `cols` columns, a multiple of 32. Tiles lie one after another.
int64_t TileBytes(TileFormat format, int64_t cols);

struct WeightTile {
  const std::byte* data = nullptr;
  TileFormat format = TileFormat::kF32;
};

// A weight matrix as tiles of 16 rows. Quantised weights stay as small as they were; a tile whose
// rows differ in type is float32. Immutable after Pack.
class PackedMatrix final : public Matrix {
 public:
  // `rows` and `cols` as in Backend::LoadMatrix.
  static absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(absl::Span<const WeightRow> rows,
                                                            int64_t cols, ThreadPool& pool);

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return memory_.bytes(); }

  // Tile t holds rows [16 * t, 16 * t + 16); those past rows() are zero.
  absl::Span<const WeightTile> tiles() const { return tiles_; }

 private:
  PackedMatrix(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

  int64_t rows_;
  int64_t cols_;
  AlignedMemory memory_;
  std::vector<WeightTile> tiles_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_PACKED_MATRIX_H_
