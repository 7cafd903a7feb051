#ifndef WEIR_TESTS_KERNELS_NAIVE_LIKELIEST_H_
#define WEIR_TESTS_KERNELS_NAIVE_LIKELIEST_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/likeliest.h"
#include "kernels/likeliest_merge.h"
#include "kernels/philox.h"

namespace weir {

// Reductions of logits told plainly, in double precision. `logits` are those of the tokens from
// `first_token` on.

// What the draw compares for a token.
inline double NaivePerturbed(float logit, int32_t token, const LikeliestRequest& request) {
  const uint32_t word =
      Philox({static_cast<uint32_t>(request.index), static_cast<uint32_t>(request.index >> 32),
              static_cast<uint32_t>(token) / 4, 1},
             {static_cast<uint32_t>(request.seed), static_cast<uint32_t>(request.seed >> 32)})
          .at(token % 4);
  const double v = std::min((word + 0.5) / 4294967296.0, 1 - 1 / 16777216.0);
  return double{logit} * request.inverse_temperature - std::log(-std::log1p(-v));
}

inline LogitsSummary NaiveSummary(const std::vector<float>& logits, int32_t first_token,
                                  const LikeliestRequest& request) {
  LogitsSummary summary;
  summary.max = -std::numeric_limits<float>::infinity();
  summary.target_logit = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) continue;
    summary.max = std::max(summary.max, logits[i]);
    summary.likeliest.push_back({logits[i], first_token + static_cast<int32_t>(i)});
    if (summary.likeliest.back().token == request.target) summary.target_logit = logits[i];
  }
  double best = -std::numeric_limits<double>::infinity();
  for (const TokenLogit& token : summary.likeliest) {
    if (token.logit == -std::numeric_limits<float>::infinity()) continue;
    const double below = double{token.logit} - summary.max;
    summary.sum += std::exp(below);
    summary.tempered_sum += std::exp(below * request.inverse_temperature);
    if (!request.draw) continue;
    const double value = NaivePerturbed(token.logit, token.token, request);
    if (value <= best) continue;
    best = value;
    summary.drawn_value = static_cast<float>(value);
    summary.drawn = token;
  }
  std::stable_sort(summary.likeliest.begin(), summary.likeliest.end(),
                   [](const TokenLogit& a, const TokenLogit& b) { return a.logit > b.logit; });
  if (summary.likeliest.size() > static_cast<size_t>(request.likeliest)) {
    summary.likeliest.resize(request.likeliest);
  }
  return summary;
}

// What is wrong with `got`, the summary of `logits`; empty if nothing is.
inline std::string CompareSummary(const LogitsSummary& got, const std::vector<float>& logits,
                                  int32_t first_token, const LikeliestRequest& request) {
  const LogitsSummary want = NaiveSummary(logits, first_token, request);
  if (got.max != want.max) return absl::StrCat("max is ", got.max, " instead of ", want.max);
  const auto near = [](double a, double b) { return std::abs(a - b) <= 2e-5 * std::abs(b); };
  if (!near(got.sum, want.sum)) return absl::StrCat("sum is ", got.sum, " instead of ", want.sum);
  // The products with the inverse temperature are rounded.
  if (!near(got.tempered_sum, want.tempered_sum)) {
    return absl::StrCat("tempered_sum is ", got.tempered_sum, " instead of ", want.tempered_sum);
  }
  if (got.target_logit != want.target_logit) {
    return absl::StrCat("the target's logit is ", got.target_logit, " instead of ",
                        want.target_logit);
  }
  if (got.likeliest.size() != want.likeliest.size()) {
    return absl::StrCat(got.likeliest.size(), " likeliest tokens instead of ",
                        want.likeliest.size());
  }
  for (size_t rank = 0; rank < got.likeliest.size(); ++rank) {
    const TokenLogit& a = got.likeliest[rank];
    const TokenLogit& b = want.likeliest[rank];
    if (a.token == b.token && a.logit == b.logit) continue;
    return absl::StrCat("at rank ", rank, " is token ", a.token, ", logit ", a.logit,
                        ", instead of ", b.token, ", ", b.logit);
  }
  if (want.drawn.token < 0) {
    return got.drawn.token < 0 ? "" : absl::StrCat("token ", got.drawn.token, " is drawn");
  }
  const int64_t place = int64_t{got.drawn.token} - first_token;
  if (place < 0 || place >= static_cast<int64_t>(logits.size())) {
    return absl::StrCat("token ", got.drawn.token, " is drawn instead of ", want.drawn.token);
  }
  if (got.drawn.logit != logits[place]) {
    return absl::StrCat("the drawn logit is ", got.drawn.logit, " instead of ", logits[place]);
  }
  // Of tokens that are equal but for rounding any may win.
  const double value = NaivePerturbed(logits[place], got.drawn.token, request);
  const double tolerance =
      4e-6 + 3e-7 * std::abs(double{got.drawn.logit} * request.inverse_temperature);
  if (std::abs(value - want.drawn_value) > tolerance ||
      std::abs(got.drawn_value - want.drawn_value) > tolerance) {
    return absl::StrCat("token ", got.drawn.token, " is drawn, value ", got.drawn_value,
                        ", instead of ", want.drawn.token, ", ", want.drawn_value);
  }
  return "";
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_NAIVE_LIKELIEST_H_
