#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <string_view>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target includes this file again, once per instruction set.
#include "hwy/highway.h"
#include "kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

using FullTag = hn::ScalableTag<float>;

HWY_INLINE float SumOfSquares(const float* x, int64_t count) {
  const FullTag tag;
  const int64_t lanes = hn::Lanes(tag);
  auto even = hn::Zero(tag);
  auto odd = hn::Zero(tag);
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto a = hn::LoadU(tag, x + i);
    const auto b = hn::LoadU(tag, x + i + lanes);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  float sum = hn::GetLane(hn::SumOfLanes(tag, hn::Add(even, odd)));
  for (; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

void NormalizeRow(const float* x, const float* weight, float epsilon, int64_t count, float* out) {
  const FullTag tag;
  const int64_t lanes = hn::Lanes(tag);
  const float scale =
      1.0f / std::sqrt(SumOfSquares(x, count) / static_cast<float>(count) + epsilon);
  const auto scales = hn::Set(tag, scale);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto scaled = hn::Mul(hn::LoadU(tag, x + i), scales);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(tag, weight + i)), tag, out + i);
  }
  for (; i < count; ++i) out[i] = x[i] * scale * weight[i];
}

void AddRow(const float* delta, int64_t count, float* x) {
  const FullTag tag;
  const int64_t lanes = hn::Lanes(tag);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(tag, x + i), hn::LoadU(tag, delta + i)), tag, x + i);
  }
  for (; i < count; ++i) x[i] += delta[i];
}

template <class D>
HWY_INLINE hn::Vec<D> SiluTimes(D tag, hn::Vec<D> gate, hn::Vec<D> up) {
  // exp(88) is finite and large enough to make anything vanish.
  const auto power = Exp(tag, hn::Min(hn::Neg(gate), hn::Set(tag, 88.0f)));
  return hn::Mul(hn::Div(gate, hn::Add(hn::Set(tag, 1.0f), power)), up);
}

void SwiGluRow(const float* gate, const float* up, int64_t count, float* out) {
  const FullTag tag;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = hn::Lanes(tag);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(SiluTimes(tag, hn::LoadU(tag, gate + i), hn::LoadU(tag, up + i)), tag, out + i);
  }
  for (; i < count; ++i) {
    hn::StoreU(SiluTimes(one, hn::LoadU(one, gate + i), hn::LoadU(one, up + i)), one, out + i);
  }
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(NormalizeRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(SwiGluRow);
HWY_EXPORT(TargetName);

// Rows that are worth handing to another thread.
int64_t GrainRows(Tensor x) {
  constexpr int64_t kElements = int64_t{1} << 14;
  return std::max<int64_t>(1, kElements / x.cols);
}

}  // namespace

void RmsNorm(ThreadPool& pool, Tensor x, Tensor weight, float epsilon, Tensor out) {
  assert(weight.elements() == x.cols && out.cols == x.cols && out.rows == x.rows);
  pool.ForRanges(x.rows, GrainRows(x), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(NormalizeRow)
      (x.f32() + row * x.cols, weight.f32(), epsilon, x.cols, out.f32() + row * x.cols);
    }
  });
}

void AddRmsNorm(ThreadPool& pool, Tensor x, Tensor delta, Tensor weight, float epsilon,
                Tensor out) {
  assert(weight.elements() == x.cols && out.cols == x.cols && out.rows == x.rows);
  assert(delta.cols == x.cols && delta.rows == x.rows);
  pool.ForRanges(x.rows, GrainRows(x), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(AddRow)
      (delta.f32() + row * x.cols, x.cols, x.f32() + row * x.cols);
      HWY_DYNAMIC_DISPATCH(NormalizeRow)
      (x.f32() + row * x.cols, weight.f32(), epsilon, x.cols, out.f32() + row * x.cols);
    }
  });
}

void SwiGlu(ThreadPool& pool, Tensor gate_up, Tensor out) {
  assert(gate_up.cols == 2 * out.cols && gate_up.rows == out.rows);
  pool.ForRanges(out.rows, GrainRows(gate_up), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* gate = gate_up.f32() + row * gate_up.cols;
      HWY_DYNAMIC_DISPATCH(SwiGluRow)(gate, gate + out.cols, out.cols, out.f32() + row * out.cols);
    }
  });
}

const char* InstructionSet() {
  const std::string_view name = HWY_DYNAMIC_DISPATCH(TargetName)();
  if (name == "AVX3") return "avx512";
  if (name == "AVX2") return "avx2";
  if (name == "SSE4") return "sse4";
  return "scalar";
}

}  // namespace weir
#endif  // HWY_ONCE
