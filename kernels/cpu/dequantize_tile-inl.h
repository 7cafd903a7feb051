// Packed weight tiles as float32, compiled once per instruction set (include inside
// foreach_target).

#if defined(WEIR_KERNELS_CPU_DEQUANTIZE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_CPU_DEQUANTIZE_TILE_INL_H_
#undef WEIR_KERNELS_CPU_DEQUANTIZE_TILE_INL_H_
#else
#define WEIR_KERNELS_CPU_DEQUANTIZE_TILE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

using HalfTag = hn::Rebind<hwy::float16_t, FloatTag>;
using WordTag = hn::Rebind<uint32_t, FloatTag>;
using IntTag = hn::Rebind<int32_t, FloatTag>;
using ByteTag = hn::Rebind<int8_t, FloatTag>;
using ShortTag = hn::Rebind<uint16_t, FloatTag>;

inline constexpr int64_t kBlock = 32;  // columns that share a scale
inline constexpr int64_t kHalfLaneBytes = kTileLanes * static_cast<int64_t>(sizeof(uint16_t));

HWY_INLINE FloatVector LoadHalves(const std::byte* from) {
  return hn::PromoteTo(FloatTag(),
                       hn::LoadU(HalfTag(), reinterpret_cast<const hwy::float16_t*>(from)));
}

// One block of kQ4: [32][16] floats.
HWY_INLINE void DequantizeQ4(const std::byte* block, float* HWY_RESTRICT out) {
  const FloatTag tag;
  const WordTag word_tag;
  const auto low_nibble = hn::Set(word_tag, 15u);
  const auto* words = reinterpret_cast<const uint32_t*>(block + 2 * kHalfLaneBytes);
#pragma GCC unroll 4
  for (int lane = 0; lane < kTileLanes; lane += kLanes) {
    const FloatVector d = LoadHalves(block + lane * sizeof(uint16_t));
    const FloatVector m = LoadHalves(block + kHalfLaneBytes + lane * sizeof(uint16_t));
    const auto put = [&](auto nibbles, int column) HWY_ATTR {
      const auto q = hn::BitCast(IntTag(), hn::And(nibbles, low_nibble));
      hn::Store(hn::MulAdd(hn::ConvertTo(tag, q), d, m), tag, out + column * kTileLanes + lane);
    };
#pragma GCC unroll 4
    for (int word = 0; word < 4; ++word) {
      const auto p = hn::LoadU(word_tag, words + word * kTileLanes + lane);
      put(p, 4 * word);
      put(hn::ShiftRight<4>(p), 4 * word + 16);
      put(hn::ShiftRight<8>(p), 4 * word + 1);
      put(hn::ShiftRight<12>(p), 4 * word + 17);
      put(hn::ShiftRight<16>(p), 4 * word + 2);
      put(hn::ShiftRight<20>(p), 4 * word + 18);
      put(hn::ShiftRight<24>(p), 4 * word + 3);
      put(hn::ShiftRight<28>(p), 4 * word + 19);
    }
  }
}

// One block of kQ8: [32][16] floats.
HWY_INLINE void DequantizeQ8(const std::byte* block, float* HWY_RESTRICT out) {
  const FloatTag tag;
  const auto* q = reinterpret_cast<const int8_t*>(block + kHalfLaneBytes);
#pragma GCC unroll 4
  for (int lane = 0; lane < kTileLanes; lane += kLanes) {
    const FloatVector d = LoadHalves(block + lane * sizeof(uint16_t));
#pragma GCC unroll 8
    for (int column = 0; column < kBlock; ++column) {
      const auto value =
          hn::PromoteTo(IntTag(), hn::LoadU(ByteTag(), q + column * kTileLanes + lane));
      hn::Store(hn::Mul(hn::ConvertTo(tag, value), d), tag, out + column * kTileLanes + lane);
    }
  }
}

// Columns [begin, end) of a tile as [end - begin][16] floats at `out`, which is aligned. In a
// quantised tile both are multiples of 32.
inline void DequantizeTile(const WeightTile& tile, int64_t begin, int64_t end, float* out) {
  const FloatTag tag;
  const std::byte* from = tile.data + TileBytes(tile.format, begin);
  const int64_t count = (end - begin) * kTileLanes;
  switch (tile.format) {
    case TileFormat::kF32: {
      const auto* values = reinterpret_cast<const float*>(from);
      for (int64_t i = 0; i < count; i += kLanes) {
        hn::Store(hn::LoadU(tag, values + i), tag, out + i);
      }
      return;
    }
    case TileFormat::kF16:
      for (int64_t i = 0; i < count; i += kLanes) {
        hn::Store(LoadHalves(from + i * sizeof(uint16_t)), tag, out + i);
      }
      return;
    case TileFormat::kBF16: {
      const auto* values = reinterpret_cast<const uint16_t*>(from);
      for (int64_t i = 0; i < count; i += kLanes) {
        const auto upper = hn::PromoteTo(WordTag(), hn::LoadU(ShortTag(), values + i));
        hn::Store(hn::BitCast(tag, hn::ShiftLeft<16>(upper)), tag, out + i);
      }
      return;
    }
    case TileFormat::kQ8:
      for (int64_t column = begin; column < end; column += kBlock) {
        DequantizeQ8(from, out);
        from += TileBytes(TileFormat::kQ8, kBlock);
        out += kBlock * kTileLanes;
      }
      return;
    case TileFormat::kQ4:
      for (int64_t column = begin; column < end; column += kBlock) {
        DequantizeQ4(from, out);
        from += TileBytes(TileFormat::kQ4, kBlock);
        out += kBlock * kTileLanes;
      }
      return;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif
