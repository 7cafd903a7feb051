#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "worker/engine/philox.h"

namespace weir {
namespace {

int32_t Likeliest(absl::Span<const float> logits) {
  int32_t best = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) continue;
    if (best < 0 || logits[i] > logits[best]) best = static_cast<int32_t>(i);
  }
  return best;
}

// The likeliest tokens, put in order as far as they are asked for.
class RankedTokens {
 public:
  explicit RankedTokens(absl::Span<const float> logits) : logits_(logits), tokens_(logits.size()) {
    std::iota(tokens_.begin(), tokens_.end(), 0);
  }

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

  // The token with `rank` likelier ones before it; of equals the lowest comes first.
  int32_t operator[](int64_t rank) {
    if (rank >= sorted_) {
      const int64_t until = std::min(size(), std::max<int64_t>(64, 4 * (rank + 1)));
      std::partial_sort(tokens_.begin() + sorted_, tokens_.begin() + until, tokens_.end(),
                        [this](int32_t a, int32_t b) {
                          const float x = Value(a);
                          const float y = Value(b);
                          return x > y || (x == y && a < b);
                        });
      sorted_ = until;
    }
    return tokens_[rank];
  }

 private:
  float Value(int32_t token) const {
    return std::isnan(logits_[token]) ? -std::numeric_limits<float>::infinity() : logits_[token];
  }

  absl::Span<const float> logits_;
  std::vector<int32_t> tokens_;
  int64_t sorted_ = 0;
};

}  // namespace

absl::StatusOr<int32_t> SampleToken(absl::Span<const float> logits, const SamplingOptions& options,
                                    int64_t index) {
  const int32_t likeliest = Likeliest(logits);
  if (likeliest < 0 || !std::isfinite(logits[likeliest])) {
    return absl::InternalError("the model's logits are not numbers");
  }
  if (options.temperature == 0 || options.top_k == 1) return likeliest;

  const double max = logits[likeliest];
  const auto weight = [&](int32_t token) {
    if (std::isnan(logits[token])) return 0.0;
    return std::exp((logits[token] - max) / options.temperature);
  };
  const double random = UniformRandom(options.seed, static_cast<uint64_t>(index));
  const int64_t count = static_cast<int64_t>(logits.size());
  const bool all = options.top_k == 0 || options.top_k >= count;

  if (all && options.top_p >= 1) {
    double sum = 0;
    for (int32_t token = 0; token < count; ++token) sum += weight(token);
    double left = random * sum;
    for (int32_t token = 0; token < count; ++token) {
      left -= weight(token);
      if (left < 0) return token;
    }
    return likeliest;  // rounding left a crumb
  }

  RankedTokens ranked(logits);
  const int64_t kept = all ? count : options.top_k;
  double sum = 0;
  if (all) {
    for (int32_t token = 0; token < count; ++token) sum += weight(token);
  } else {
    for (int64_t rank = 0; rank < kept; ++rank) sum += weight(ranked[rank]);
  }
  // The nucleus: ranks [0, end), the fewest that have top_p of `sum`.
  double mass = 0;
  int64_t end = 0;
  while (end < kept && (end == 0 || mass < options.top_p * sum)) mass += weight(ranked[end++]);
  double left = random * mass;
  for (int64_t rank = 0; rank < end; ++rank) {
    left -= weight(ranked[rank]);
    if (left < 0) return ranked[rank];
  }
  return likeliest;
}

Logprobs ComputeLogprobs(absl::Span<const float> logits, int32_t token, int top) {
  double max = -std::numeric_limits<double>::infinity();
  for (float logit : logits) max = std::max(max, double{logit});
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  const double log_sum = max + std::log(sum);

  Logprobs result;
  result.token = static_cast<float>(logits[token] - log_sum);
  if (top <= 0) return result;
  RankedTokens ranked(logits);
  for (int64_t rank = 0; rank < std::min<int64_t>(top, ranked.size()); ++rank) {
    result.top.push_back({ranked[rank], static_cast<float>(logits[ranked[rank]] - log_sum)});
  }
  return result;
}

}  // namespace weir
