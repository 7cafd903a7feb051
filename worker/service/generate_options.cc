#include "worker/service/generate_options.h"

#include "absl/status/status.h"
#include "worker/engine/generate_limits.h"

namespace weir {

absl::StatusOr<GenerateOptions> GenerateOptionsFromProto(const v1::GenerateRequest& request) {
  const v1::SamplingSettings& sampling = request.sampling();
  GenerateOptions options;
  options.sampling.temperature = sampling.temperature();
  options.sampling.top_k = sampling.top_k();
  options.sampling.top_p = sampling.has_top_p() ? sampling.top_p() : 1.0;
  options.sampling.seed = sampling.seed();
  options.max_tokens = request.max_tokens();
  options.stop.assign(request.stop().begin(), request.stop().end());
  options.ignore_end_token = request.ignore_end_token();
  if (request.has_top_logprobs()) options.top_logprobs = request.top_logprobs();
  if (absl::Status valid = ValidateGenerateOptions(options); !valid.ok()) return valid;
  return options;
}

}  // namespace weir
