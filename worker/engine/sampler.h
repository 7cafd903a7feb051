#ifndef WEIR_WORKER_ENGINE_SAMPLER_H_
#define WEIR_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/engine/run.h"

namespace weir {

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
