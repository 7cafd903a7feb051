#include "kernels/cpu/likeliest.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/gumbel.h"
#include "kernels/likeliest_merge.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/likeliest.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target includes this file again, once per instruction set.
#include "hwy/highway.h"
#include "kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// The largest of `count` logits that are numbers; -infinity without any.
float LargestLogit(const float* logits, int64_t count) {
  const hn::ScalableTag<float> tag;
  const int64_t lanes = hn::Lanes(tag);
  const auto least = hn::Set(tag, -std::numeric_limits<float>::infinity());
  auto largest = least;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto x = hn::LoadU(tag, logits + i);
    largest = hn::Max(largest, hn::IfThenElse(hn::IsNaN(x), least, x));
  }
  float result = hn::GetLane(hn::MaxOfLanes(tag, largest));
  for (; i < count; ++i) {
    if (logits[i] > result) result = logits[i];
  }
  return result;
}

// exp((x - max) * scale), 0 where x is not a number.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Power(D tag, V x, V max, V scale) {
  return hn::IfThenZeroElse(hn::IsNaN(x), Exp(tag, hn::Mul(hn::Sub(x, max), scale)));
}

// powers[i] = exp((logits[i] - max) * scale), 0 where the logit is not a number; returns their sum.
float TakePowers(const float* logits, int64_t count, float max, float scale, float* powers) {
  const hn::ScalableTag<float> tag;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = hn::Lanes(tag);
  const auto maxes = hn::Set(tag, max);
  const auto scales = hn::Set(tag, scale);
  auto sums = hn::Zero(tag);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto power = Power(tag, hn::LoadU(tag, logits + i), maxes, scales);
    hn::StoreU(power, tag, powers + i);
    sums = hn::Add(sums, power);
  }
  float sum = hn::GetLane(hn::SumOfLanes(tag, sums));
  for (; i < count; ++i) {
    const auto power =
        Power(one, hn::LoadU(one, logits + i), hn::Set(one, max), hn::Set(one, scale));
    hn::StoreU(power, one, powers + i);
    sum += powers[i];
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(LargestLogit);
HWY_EXPORT(TakePowers);

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens that one item of work reduces: the same ones whatever the threads, for the same sums.
constexpr int kSliceTokens = 8192;

// Consecutive tokens of one row.
struct Slice {
  const float* logits;
  int64_t count;
  int32_t first_token;
};

Slice SliceOf(Tensor logits, int64_t row, int32_t first_token, int32_t tokens, int64_t index) {
  const int64_t begin = index * kSliceTokens;
  return {logits.f32() + row * logits.cols + begin, std::min<int64_t>(kSliceTokens, tokens - begin),
          static_cast<int32_t>(first_token + begin)};
}

bool Likelier(const TokenLogit& a, const TokenLogit& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// The `count` likeliest of a row's tokens, best first.
std::vector<TokenLogit> Likeliest(const Slice& row, int count) {
  std::vector<TokenLogit> kept;
  kept.reserve(2 * count);
  // Tokens come in ascending order: once `count` are above or at the bar, only one above it counts.
  float bar = 0;
  bool bounded = false;
  for (int64_t i = 0; i < row.count; ++i) {
    const float logit = row.logits[i];
    if (bounded ? !(logit > bar) : std::isnan(logit)) continue;
    kept.push_back({logit, row.first_token + static_cast<int32_t>(i)});
    if (static_cast<int>(kept.size()) < 2 * count) continue;
    std::nth_element(kept.begin(), kept.begin() + (count - 1), kept.end(), Likelier);
    kept.resize(count);
    bar = kept.back().logit;
    bounded = true;
  }
  const int64_t end = std::min<int64_t>(count, static_cast<int64_t>(kept.size()));
  std::partial_sort(kept.begin(), kept.begin() + end, kept.end(), Likelier);
  kept.resize(end);
  return kept;
}

// Draws a token of the slice. powers[i] = exp((logit - max) * inverse_temperature).
void Draw(const Slice& slice, const float* powers, const LikeliestRequest& request,
          LikeliestSummary& summary) {
  const float scale = request.inverse_temperature;
  // Taking logarithms of every uniform would be slow. The variate of v is at most -log(v), so a
  // token can only win where v <= exp(logit * scale - best value), which is its power times
  // `reach`. The margin is more than what rounding makes of it.
  const double offset = double{summary.max} * scale;
  const double margin = 1e-3 + 3e-7 * std::abs(offset);
  float reach = kInfinity;
  float best = -kInfinity;
  for (int64_t i = 0; i < slice.count;) {
    const uint32_t token = static_cast<uint32_t>(slice.first_token + i);
    const std::array<uint32_t, 4> words = GumbelWords(request.seed, request.index, token / 4);
    for (uint32_t j = token % 4; j < 4 && i < slice.count; ++j, ++i) {
      const float v = GumbelUniform(words[j]);
      if (!(v <= powers[i] * reach)) continue;
      const float value = PerturbedLogit(slice.logits[i], scale, v);
      if (!(value > best)) continue;
      best = value;
      reach = static_cast<float>(std::exp(offset - best + margin));
      summary.drawn_value = value;
      summary.drawn_logit = slice.logits[i];
      summary.drawn_token = slice.first_token + static_cast<int32_t>(i);
    }
  }
}

// The summary of a slice, with its likeliest token only.
LikeliestSummary SummarizeSlice(const Slice& slice, const LikeliestRequest& request,
                                TokenLogit& likeliest) {
  std::array<float, kSliceTokens> powers;
  LikeliestSummary summary;
  summary.drawn_token = -1;
  summary.max = HWY_DYNAMIC_DISPATCH(LargestLogit)(slice.logits, slice.count);
  if (summary.max > -kInfinity) {
    summary.sum = HWY_DYNAMIC_DISPATCH(TakePowers)(slice.logits, slice.count, summary.max, 1.0f,
                                                   powers.data());
    summary.tempered_sum = summary.sum;
    if (request.inverse_temperature != 1) {
      summary.tempered_sum = HWY_DYNAMIC_DISPATCH(TakePowers)(
          slice.logits, slice.count, summary.max, request.inverse_temperature, powers.data());
    }
    if (request.draw) Draw(slice, powers.data(), request, summary);
  }
  const float* end = slice.logits + slice.count;
  if (const float* found = std::find(slice.logits, end, summary.max); found != end) {
    summary.likeliest = 1;
    likeliest = {summary.max, slice.first_token + static_cast<int32_t>(found - slice.logits)};
  }
  const int64_t target = int64_t{request.target} - slice.first_token;
  if (target >= 0 && target < slice.count && !std::isnan(slice.logits[target])) {
    summary.target_logit = slice.logits[target];
  }
  return summary;
}

void WriteSummary(const LogitsSummary& whole, int row, int rows, float* out) {
  LikeliestSummary& summary = SummariesOf(out)[row];
  summary = {.max = whole.max,
             .sum = static_cast<float>(whole.sum),
             .tempered_sum = static_cast<float>(whole.tempered_sum),
             .likeliest = static_cast<int32_t>(whole.likeliest.size()),
             .drawn_value = whole.drawn_value,
             .drawn_logit = whole.drawn.logit,
             .drawn_token = whole.drawn.token,
             .target_logit = whole.target_logit};
  TokenLogit* to = LikeliestOf(out, rows) + row;
  for (const TokenLogit& token : whole.likeliest) {
    *to = token;
    to += rows;
  }
}

}  // namespace

void LikeliestKernel::Run(Tensor logits, int32_t first_token, int32_t tokens,
                          absl::Span<const LikeliestRequest> requests, Tensor out) {
  const int rows = static_cast<int>(logits.rows);
  assert(tokens >= 0 && tokens <= logits.cols && static_cast<int>(requests.size()) == rows);
  assert(out.rows > SummaryLines(0) && out.cols == 2 * rows);
  const int slices = (tokens + kSliceTokens - 1) / kSliceTokens;
  const int64_t part_size = SummaryLines(1) * 2 * rows;
  parts_.resize(slices * part_size);
  pool_.For(int64_t{rows} * slices, [&](int64_t item, int) {
    const int64_t row = item / slices;
    const int64_t index = item % slices;
    float* part = parts_.data() + index * part_size;
    SummariesOf(part)[row] = SummarizeSlice(SliceOf(logits, row, first_token, tokens, index),
                                            requests[row], LikeliestOf(part, rows)[row]);
  });
  pool_.For(rows, [&](int64_t row, int) {
    LikeliestRequest request = requests[row];
    request.likeliest = 1;
    LogitsSummary whole = MergeSummaries(parts_, slices, rows, 1, static_cast<int>(row), request);
    if (const int count = requests[row].likeliest; count > 1) {
      whole.likeliest = Likeliest({logits.f32() + row * logits.cols, tokens, first_token}, count);
    }
    WriteSummary(whole, static_cast<int>(row), rows, out.f32());
  });
}

}  // namespace weir
#endif  // HWY_ONCE
