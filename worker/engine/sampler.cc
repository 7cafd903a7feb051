#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"

namespace weir {
namespace {

// Colder than this, chance has no say: what the logits' last bits differ by decides.
constexpr double kColdestTemperature = 1e-6;

bool TakesLikeliest(const SamplingOptions& options) {
  return options.temperature == 0 || options.top_k == 1;
}

bool DrawsFromAll(const SamplingOptions& options) {
  return options.top_k == 0 && options.top_p >= 1;
}

// The same for the device and for the sampler, to the last bit.
float InverseTemperature(double temperature) {
  return static_cast<float>(1 / std::max(temperature, kColdestTemperature));
}

}  // namespace

LikeliestRequest RequestFor(const SamplingOptions& options, int64_t index,
                            std::optional<int> top_logprobs) {
  LikeliestRequest request;
  request.likeliest = std::max(1, top_logprobs.value_or(0));
  if (TakesLikeliest(options)) return request;
  request.inverse_temperature = InverseTemperature(options.temperature);
  if (DrawsFromAll(options)) {
    request.seed = options.seed;
    request.index = static_cast<uint64_t>(index);
    request.draw = true;
  } else {
    const int limit = options.top_k == 0 ? kMostLikeliest : options.top_k;
    request.likeliest = std::max(request.likeliest, limit);
  }
  return request;
}

absl::StatusOr<TokenLogit> ChooseToken(const LogitsSummary& summary, const SamplingOptions& options,
                                       int64_t index) {
  if (summary.likeliest.empty() || !std::isfinite(summary.max)) {
    return absl::InternalError("the model's logits are not numbers");
  }
  const std::vector<TokenLogit>& likeliest = summary.likeliest;
  if (TakesLikeliest(options)) return likeliest.front();
  if (DrawsFromAll(options)) {
    // Nothing is drawn where the quotients by the temperature overflow.
    return summary.drawn.token >= 0 ? summary.drawn : likeliest.front();
  }

  const double scale = InverseTemperature(options.temperature);
  const auto weight = [&](const TokenLogit& token) {
    return std::exp((token.logit - double{summary.max}) * scale);
  };
  size_t kept = likeliest.size();
  double sum = summary.tempered_sum;
  if (options.top_k > 0) {
    kept = std::min<size_t>(kept, options.top_k);
    sum = 0;
    for (size_t rank = 0; rank < kept; ++rank) sum += weight(likeliest[rank]);
  }
  // The nucleus: ranks [0, end), the fewest that have top_p of `sum`.
  double mass = 0;
  size_t end = 0;
  while (end < kept && (end == 0 || mass < options.top_p * sum)) mass += weight(likeliest[end++]);
  double left = UniformRandom(options.seed, static_cast<uint64_t>(index)) * mass;
  for (size_t rank = 0; rank < end; ++rank) {
    left -= weight(likeliest[rank]);
    if (left < 0) return likeliest[rank];
  }
  return likeliest.front();  // rounding left a crumb
}

Logprobs ComputeLogprobs(const LogitsSummary& summary, float chosen, int top) {
  Logprobs result = {.token = summary.LogProbability(chosen)};
  const size_t count = std::min<size_t>(top, summary.likeliest.size());
  for (size_t rank = 0; rank < count; ++rank) {
    const TokenLogit& token = summary.likeliest[rank];
    result.top.push_back({token.token, summary.LogProbability(token.logit)});
  }
  return result;
}

}  // namespace weir
