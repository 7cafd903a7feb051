#ifndef WEIR_WORKER_ENGINE_SAMPLER_H_
#define WEIR_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/likeliest.h"
#include "kernels/likeliest_merge.h"
#include "worker/engine/run.h"

namespace weir {

// A choice depends on the logits, the options and the stream index alone. The logits are seen only
// as their summary: the likeliest tokens and the draw that RequestFor asks for.

// What ChooseToken and ComputeLogprobs must know of the logits of the token at stream index `index`
// of a session, with `top_logprobs` as in GenerateOptions. The options have passed
// ValidateGenerateOptions.
LikeliestRequest RequestFor(const SamplingOptions& options, int64_t index,
                            std::optional<int> top_logprobs);

// Chooses the token at stream index `index` by the summary that RequestFor asked for. With
// temperature 0 the likeliest; of equals the lowest. Otherwise by chance: the logits are divided by
// the temperature; only the top_k likeliest tokens stay, and of these the likeliest that together
// have top_p of the probability (of all tokens, where top_k is 0; if kMostLikeliest tokens have
// less than top_p, these). With neither limit the draw of the whole vocabulary decides, else
// UniformRandom(seed, index). INTERNAL when no logit is a number, or one is infinite.
absl::StatusOr<TokenLogit> ChooseToken(const LogitsSummary& summary, const SamplingOptions& options,
                                       int64_t index);

// Natural log-probabilities that the logits give, whatever the temperature: of a token with logit
// `chosen`, and of the `top` likeliest tokens, likeliest first.
struct Logprobs {
  float token = 0;
  std::vector<TokenLogprob> top;
};
Logprobs ComputeLogprobs(const LogitsSummary& summary, float chosen, int top);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_SAMPLER_H_
