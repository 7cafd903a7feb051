// exp of float32 vectors, compiled once per instruction set (include inside foreach_target).

#if defined(WEIR_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_CPU_EXP_INL_H_
#undef WEIR_KERNELS_CPU_EXP_INL_H_
#else
#define WEIR_KERNELS_CPU_EXP_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// exp(x) for x <= 88, within 2 units in the last place; 0 where x < -87. NaN gives NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D tag, V x) {
  const hn::RebindToUnsigned<D> bits_tag;
  const V lowest = hn::Set(tag, -87.0f);
  // x = n * ln 2 + r, |r| <= ln 2 / 2. Adding 3 * 2^22 leaves n in the low bits of the sum.
  const V magic = hn::Set(tag, 12582912.0f);
  const V shifted = hn::MulAdd(hn::Max(x, lowest), hn::Set(tag, 1.442695022f), magic);
  const V n = hn::Sub(shifted, magic);
  // ln 2 in two parts: n times the first is exact.
  V r = hn::NegMulAdd(n, hn::Set(tag, 0.693115234375f), x);
  r = hn::NegMulAdd(n, hn::Set(tag, 3.194618329871446e-05f), r);
  // (exp(r) - 1 - r) / r^2, interpolated at the Chebyshev nodes.
  V p = hn::MulAdd(hn::Set(tag, 0.0013926184037700295f), r, hn::Set(tag, 0.008363178931176662f));
  p = hn::MulAdd(p, r, hn::Set(tag, 0.041666556149721146f));
  p = hn::MulAdd(p, r, hn::Set(tag, 0.16666576266288757f));
  p = hn::MulAdd(p, r, hn::Set(tag, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(tag, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(tag, 1.0f));
  const auto exponent = hn::Add(hn::BitCast(bits_tag, shifted), hn::Set(bits_tag, 127));
  const V power = hn::BitCast(tag, hn::ShiftLeft<23>(exponent));
  return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(p, power));
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif
