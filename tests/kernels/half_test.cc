#include "kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace weir {
namespace {

// The definition of binary16: (-1)^s 2^(e-15) (1 + f / 1024), subnormal for e = 0.
double HalfByDefinition(int bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(HalfTest, EveryBinary16IsExact) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const double expected = HalfByDefinition(bits);
    const float value = HalfToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(value, expected) << bits;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    }
  }
}

TEST(HalfTest, BFloat16IsTheUpperHalfOfAFloat) {
  EXPECT_EQ(BFloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(0xc049), -3.140625f);
  EXPECT_EQ(BFloat16ToFloat(0x0001), std::ldexp(1.0f, -133));
  EXPECT_EQ(BFloat16ToFloat(0x7f80), HUGE_VALF);
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(0x7fc0)));
}

}  // namespace
}  // namespace weir
