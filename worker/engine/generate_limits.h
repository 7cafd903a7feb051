#ifndef WEIR_WORKER_ENGINE_GENERATE_LIMITS_H_
#define WEIR_WORKER_ENGINE_GENERATE_LIMITS_H_

#include "absl/status/status.h"
#include "kernels/likeliest.h"
#include "worker/engine/run.h"

namespace weir {

// Limits of GenerateOptions, as generation.proto tells them.
inline constexpr double kMaxTemperature = 100;
inline constexpr int kMaxTopK = kMostLikeliest;
inline constexpr int kMaxTopLogprobs = 20;
static_assert(kMaxTopLogprobs <= kMostLikeliest);
inline constexpr int kMaxStopTexts = 16;
inline constexpr int kMaxStopBytes = 256;

// INVALID_ARGUMENT, naming the field, its value and the limit, unless all of this holds:
//   0 <= temperature <= kMaxTemperature, 0 <= top_k <= kMaxTopK, 0 < top_p <= 1, max_tokens >= 0
//   at most kMaxStopTexts stop texts, each valid UTF-8 of 1 to kMaxStopBytes bytes
//   0 <= top_logprobs <= kMaxTopLogprobs, or not set
absl::Status ValidateGenerateOptions(const GenerateOptions& options);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_GENERATE_LIMITS_H_
