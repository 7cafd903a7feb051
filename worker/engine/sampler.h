#ifndef WEIR_WORKER_ENGINE_SAMPLER_H_
#define WEIR_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/engine/run.h"

namespace weir {

// Limits of GenerateOptions.
inline constexpr double kMaxTemperature = 100;
inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int kMaxStopTexts = 16;
inline constexpr int kMaxStopBytes = 256;

// INVALID_ARGUMENT, naming the field, its value and the limit, unless all of this holds:
//   0 <= temperature <= kMaxTemperature, top_k >= 0, 0 < top_p <= 1, max_tokens >= 0
//   at most kMaxStopTexts stop texts, each valid UTF-8 of 1 to kMaxStopBytes bytes
//   -1 <= top_logprobs <= kMaxTopLogprobs
absl::Status ValidateGenerateOptions(const GenerateOptions& options);

// Chooses the token at stream index `index` of a session by its logits. With temperature 0 the
// likeliest; of equals the lowest. Otherwise by chance: the logits are divided by the temperature,
// only the top_k likeliest tokens stay, and of these the likeliest that together have top_p of the
// probability; UniformRandom(seed, index) decides. So a choice depends on the logits, the options
// and the index alone. INTERNAL when no logit is a number.
absl::StatusOr<int32_t> SampleToken(absl::Span<const float> logits, const SamplingOptions& options,
                                    int64_t index);

// Natural log-probabilities that the logits give, whatever the temperature: of `token`, and of the
// `top` likeliest tokens, likeliest first.
struct Logprobs {
  float token = 0;
  std::vector<TokenLogprob> top;
};
Logprobs ComputeLogprobs(absl::Span<const float> logits, int32_t token, int top);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_SAMPLER_H_
