#include "worker/service/generate_options.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

template <typename Value>
absl::Status Wrong(const std::string& field, const Value& value, const std::string& limit) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; it must be ", limit));
}

// Comparisons are written so that NaN fails them.
absl::StatusOr<SamplingOptions> SamplingFromProto(const v1::SamplingSettings& settings) {
  SamplingOptions sampling;
  sampling.temperature = settings.temperature();
  sampling.top_k = settings.top_k();
  sampling.top_p = settings.has_top_p() ? settings.top_p() : 1.0;
  sampling.seed = settings.seed();
  if (!(sampling.temperature >= 0 && sampling.temperature <= kMaxTemperature)) {
    return Wrong("temperature", sampling.temperature, absl::StrCat("0 to ", kMaxTemperature));
  }
  if (sampling.top_k < 0) return Wrong("top_k", sampling.top_k, "at least 0 (0: all tokens)");
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return Wrong("top_p", sampling.top_p, "above 0 and at most 1");
  }
  return sampling;
}

absl::Status CheckStopTexts(const v1::GenerateRequest& request) {
  if (request.stop_size() > kMaxStopTexts) {
    return absl::InvalidArgumentError(absl::StrCat("stop has ", request.stop_size(),
                                                   " texts; it may have at most ", kMaxStopTexts));
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    const size_t bytes = request.stop(i).size();
    if (bytes == 0 || bytes > kMaxStopTextBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "stop[", i, "] has ", bytes, " bytes; a stop text has 1 to ", kMaxStopTextBytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GenerateOptions> GenerateOptionsFromProto(const v1::GenerateRequest& request) {
  const absl::StatusOr<SamplingOptions> sampling = SamplingFromProto(request.sampling());
  if (!sampling.ok()) return sampling.status();
  if (request.max_tokens() < 0) {
    return Wrong("max_tokens", request.max_tokens(), "at least 0 (0: no limit)");
  }
  if (request.has_top_logprobs() &&
      (request.top_logprobs() < 0 || request.top_logprobs() > kMaxTopLogprobs)) {
    return Wrong("top_logprobs", request.top_logprobs(),
                 absl::StrCat("0 to ", kMaxTopLogprobs, ", or not set"));
  }
  if (const absl::Status stop = CheckStopTexts(request); !stop.ok()) return stop;

  GenerateOptions options;
  options.sampling = *sampling;
  options.max_tokens = request.max_tokens();
  options.stop.assign(request.stop().begin(), request.stop().end());
  options.ignore_end_token = request.ignore_end_token();
  options.top_logprobs = request.has_top_logprobs() ? request.top_logprobs() : -1;
  return options;
}

}  // namespace weir
