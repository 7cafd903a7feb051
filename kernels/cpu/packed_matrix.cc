#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kernels/dequantize.h"
#include "kernels/weight_type.h"

namespace weir {
namespace {

constexpr int64_t kBlock = 32;  // weights that share a scale
constexpr int64_t kQ4Words = 4;
constexpr int64_t kHalfLanes = kTileLanes * static_cast<int64_t>(sizeof(uint16_t));

uint16_t ReadHalf(const std::byte* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

// The f16 -8 * d, when there is one: Q4_0's weights d * (q - 8) are then d * q + m.
std::optional<uint16_t> MinusEight(uint16_t d) {
  const uint16_t sign = (d & 0x8000u) ^ 0x8000u;
  const uint16_t magnitude = d & 0x7fffu;
  if (magnitude < 0x0080u)
    return sign | static_cast<uint16_t>(magnitude << 3);  // stays below 2^-14
  if (magnitude < 0x0400u) {
    uint16_t exponent = 1;  // a subnormal that becomes normal
    uint16_t fraction = static_cast<uint16_t>(magnitude << 3);
    for (; fraction >= 0x0800u; fraction >>= 1) ++exponent;
    return sign | static_cast<uint16_t>(exponent << 10) | (fraction & 0x3ffu);
  }
  if (magnitude >= 0x7000u) return std::nullopt;  // too large, infinite or no number
  return sign | static_cast<uint16_t>(magnitude + (3u << 10));
}

bool HoldsMinusEight(const std::byte* row, int64_t cols) {
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    if (!MinusEight(ReadHalf(row + block * BlockBytes(WeightType::kQ4_0)))) return false;
  }
  return true;
}

TileFormat FormatOf(absl::Span<const WeightRow> rows, int64_t cols) {
  const WeightType type = rows[0].type;
  for (const WeightRow& row : rows) {
    if (row.type != type) return TileFormat::kF32;
    if (type == WeightType::kQ4_0 && !HoldsMinusEight(row.data, cols)) return TileFormat::kF32;
  }
  switch (type) {
    case WeightType::kF32:
      return TileFormat::kF32;
    case WeightType::kF16:
      return TileFormat::kF16;
    case WeightType::kBF16:
      return TileFormat::kBF16;
    case WeightType::kQ8_0:
      return TileFormat::kQ8;
    case WeightType::kQ4_0:
    case WeightType::kQ4_1:
      return TileFormat::kQ4;
  }
  return TileFormat::kF32;
}

template <typename T>
void Interleave(const T* row, int64_t cols, T* lane) {
  for (int64_t col = 0; col < cols; ++col) lane[col * kTileLanes] = row[col];
}

void PackQ8(const std::byte* row, int64_t cols, int lane, std::byte* tile) {
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    std::memcpy(tile + lane * sizeof(uint16_t), row, sizeof(uint16_t));
    Interleave(row + sizeof(uint16_t), kBlock, tile + kHalfLanes + lane);
    row += BlockBytes(WeightType::kQ8_0);
    tile += TileBytes(TileFormat::kQ8, kBlock);
  }
}

void PackQ4(WeightType type, const std::byte* row, int64_t cols, int lane, std::byte* tile) {
  const int64_t header = type == WeightType::kQ4_1 ? 4 : 2;
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    const uint16_t d = ReadHalf(row);
    const uint16_t m = type == WeightType::kQ4_1 ? ReadHalf(row + 2) : *MinusEight(d);
    std::memcpy(tile + lane * sizeof(uint16_t), &d, sizeof(d));
    std::memcpy(tile + kHalfLanes + lane * sizeof(uint16_t), &m, sizeof(m));
    for (int64_t word = 0; word < kQ4Words; ++word) {
      std::memcpy(tile + 2 * kHalfLanes + (word * kTileLanes + lane) * sizeof(uint32_t),
                  row + header + word * sizeof(uint32_t), sizeof(uint32_t));
    }
    row += BlockBytes(type);
    tile += TileBytes(TileFormat::kQ4, kBlock);
  }
}

void PackRow(const WeightRow& row, int64_t cols, TileFormat format, int lane, std::byte* tile) {
  switch (format) {
    case TileFormat::kF32: {
      std::vector<float> values(cols);
      DequantizeRow(row.type, row.data, absl::MakeSpan(values));
      Interleave(values.data(), cols, reinterpret_cast<float*>(tile) + lane);
      return;
    }
    case TileFormat::kF16:
    case TileFormat::kBF16: {
      std::vector<uint16_t> values(cols);  // the file's rows may start anywhere
      std::memcpy(values.data(), row.data, cols * sizeof(uint16_t));
      Interleave(values.data(), cols, reinterpret_cast<uint16_t*>(tile) + lane);
      return;
    }
    case TileFormat::kQ8:
      return PackQ8(row.data, cols, lane, tile);
    case TileFormat::kQ4:
      return PackQ4(row.type, row.data, cols, lane, tile);
  }
}

}  // namespace

int64_t TileBytes(TileFormat format, int64_t cols) {
  switch (format) {
    case TileFormat::kF32:
      return cols * kTileLanes * static_cast<int64_t>(sizeof(float));
    case TileFormat::kF16:
    case TileFormat::kBF16:
      return cols * kHalfLanes;
    case TileFormat::kQ8:
      return cols / kBlock * (kHalfLanes + kBlock * kTileLanes);
    case TileFormat::kQ4:
      return cols / kBlock * (2 * kHalfLanes + kBlock * kTileLanes / 2);
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(absl::Span<const WeightRow> rows,
                                                                 int64_t cols, ThreadPool& pool) {
  std::unique_ptr<PackedMatrix> matrix(new PackedMatrix(rows.size(), cols));
  const int64_t tile_count = (matrix->rows() + kTileLanes - 1) / kTileLanes;
  const auto tile_rows = [&](int64_t tile) { return rows.subspan(tile * kTileLanes, kTileLanes); };

  std::vector<int64_t> offsets(tile_count);
  matrix->tiles_.resize(tile_count);
  int64_t bytes = 0;
  for (int64_t tile = 0; tile < tile_count; ++tile) {
    matrix->tiles_[tile].format = FormatOf(tile_rows(tile), cols);
    offsets[tile] = bytes;
    bytes += TileBytes(matrix->tiles_[tile].format, cols);
  }
  absl::StatusOr<AlignedMemory> memory = AlignedMemory::Allocate(
      bytes, absl::StrCat("a weight matrix [", rows.size(), ", ", cols, "]"));
  if (!memory.ok()) return memory.status();
  matrix->memory_ = std::move(*memory);

  pool.For(tile_count, [&](int64_t tile, int) {
    std::byte* data = matrix->memory_.data() + offsets[tile];
    int lane = 0;
    for (const WeightRow& row : tile_rows(tile)) {
      PackRow(row, cols, matrix->tiles_[tile].format, lane++, data);
    }
    matrix->tiles_[tile].data = data;
  });
  return matrix;
}

}  // namespace weir
