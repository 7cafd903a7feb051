#ifndef WEIR_KERNELS_HALF_H_
#define WEIR_KERNELS_HALF_H_

#include <bit>
#include <cstdint>

namespace weir {

// The value of an IEEE binary16 given as its bits; exact, subnormals, infinities and NaNs included.
constexpr float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {
    // Zero or subnormal: fraction * 2^-24, which a float holds exactly.
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t float_exponent = exponent == 0x1fu ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (float_exponent << 23) | (fraction << 13));
}

// The value of a bfloat16 given as its bits; exact.
constexpr float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace weir

#endif  // WEIR_KERNELS_HALF_H_
