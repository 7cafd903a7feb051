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

// The scales of a kQ4 block as this code uses them, see Q4Value.
struct Q4Scale {
  FloatVector step;    // 16 * d
  FloatVector offset;  // m - 16 * d
};

HWY_INLINE Q4Scale LoadQ4Scale(const std::byte* block, int lane) {
  const FloatVector d = LoadHalves(block + lane * sizeof(uint16_t));
  const FloatVector m = LoadHalves(block + kHalfLaneBytes + lane * sizeof(uint16_t));
  const FloatVector step = hn::Mul(d, hn::Set(FloatTag(), 16.0f));
  return {step, hn::Sub(m, step)};
}

// d * q + m for the nibble q at bit kShift of each word. The nibble becomes the top of a mantissa:
// 1 + q / 16 is one bit operation away where converting an integer takes another instruction.
template <int kShift>
HWY_INLINE FloatVector Q4Value(hn::Vec<WordTag> words, const Q4Scale& scale) {
  constexpr int kMantissaTop = 19;
  const WordTag word_tag;
  const auto q = [&]() HWY_ATTR {
    if constexpr (kShift <= kMantissaTop) {
      return hn::ShiftLeft<kMantissaTop - kShift>(words);
    } else {
      return hn::ShiftRight<kShift - kMantissaTop>(words);
    }
  }();
  const auto one_and_q = hn::OrAnd(hn::Set(word_tag, 0x3f800000u), q, hn::Set(word_tag, 0x780000u));
  return hn::MulAdd(hn::BitCast(FloatTag(), one_and_q), scale.step, scale.offset);
}

// d * q for the int8 q at `values`.
HWY_INLINE FloatVector Q8Value(const std::byte* values, FloatVector d) {
  const auto q =
      hn::PromoteTo(IntTag(), hn::LoadU(ByteTag(), reinterpret_cast<const int8_t*>(values)));
  return hn::Mul(hn::ConvertTo(FloatTag(), q), d);
}

// One block of kQ4: [32][16] floats.
HWY_INLINE void DequantizeQ4(const std::byte* block, float* HWY_RESTRICT out) {
  const FloatTag tag;
#pragma GCC unroll 4
  for (int lane = 0; lane < kTileLanes; lane += kLanes) {
    const Q4Scale scale = LoadQ4Scale(block, lane);
    for (int word = 0; word < 4; ++word) {
      const auto* from = reinterpret_cast<const uint32_t*>(block + 2 * kHalfLaneBytes);
      const auto p = hn::LoadU(WordTag(), from + word * kTileLanes + lane);
      float* low = out + 4 * word * kTileLanes + lane;
      float* high = low + 16 * kTileLanes;
      hn::Store(Q4Value<0>(p, scale), tag, low);
      hn::Store(Q4Value<8>(p, scale), tag, low + kTileLanes);
      hn::Store(Q4Value<16>(p, scale), tag, low + 2 * kTileLanes);
      hn::Store(Q4Value<24>(p, scale), tag, low + 3 * kTileLanes);
      hn::Store(Q4Value<4>(p, scale), tag, high);
      hn::Store(Q4Value<12>(p, scale), tag, high + kTileLanes);
      hn::Store(Q4Value<20>(p, scale), tag, high + 2 * kTileLanes);
      hn::Store(Q4Value<28>(p, scale), tag, high + 3 * kTileLanes);
    }
  }
}

// One block of kQ8: [32][16] floats.
HWY_INLINE void DequantizeQ8(const std::byte* block, float* HWY_RESTRICT out) {
#pragma GCC unroll 4
  for (int lane = 0; lane < kTileLanes; lane += kLanes) {
    const FloatVector d = LoadHalves(block + lane * sizeof(uint16_t));
    const std::byte* values = block + kHalfLaneBytes + lane;
#pragma GCC unroll 8
    for (int column = 0; column < kBlock; ++column) {
      hn::Store(Q8Value(values + column * kTileLanes, d), FloatTag(),
                out + column * kTileLanes + lane);
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
