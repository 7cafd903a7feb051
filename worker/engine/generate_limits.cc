#include "worker/engine/generate_limits.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/model/utf8.h"

namespace weir {
namespace {

bool IsValidUtf8(const std::string& text) {
  for (absl::string_view rest = text; !rest.empty();) {
    const Utf8Character character = FirstUtf8Character(rest);
    if (character.kind != Utf8Character::Kind::kValid) return false;
    rest.remove_prefix(character.length);
  }
  return true;
}

absl::Status ValidateStopTexts(const std::vector<std::string>& stop) {
  if (stop.size() > kMaxStopTexts) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop has ", stop.size(), " texts; there may be at most ", kMaxStopTexts));
  }
  for (size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty() || stop[i].size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] has ", stop[i].size(),
                                                     " bytes; it must have 1 to ", kMaxStopBytes));
    }
    if (!IsValidUtf8(stop[i])) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] is not valid UTF-8"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateGenerateOptions(const GenerateOptions& options) {
  const SamplingOptions& sampling = options.sampling;
  // Negated, so that NaN fails too.
  if (!(sampling.temperature >= 0 && sampling.temperature <= kMaxTemperature)) {
    return absl::InvalidArgumentError(absl::StrCat("temperature is ", sampling.temperature,
                                                   "; it must be from 0 to ", kMaxTemperature));
  }
  if (sampling.top_k < 0 || sampling.top_k > kMaxTopK) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k is ", sampling.top_k, "; it must be from 0 to ", kMaxTopK));
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_p is ", sampling.top_p, "; it must be above 0 and at most 1"));
  }
  if (options.max_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", options.max_tokens, "; it must be at least 0"));
  }
  const int top_logprobs = options.top_logprobs.value_or(0);
  if (top_logprobs < 0 || top_logprobs > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", top_logprobs, "; it must be from 0 to ", kMaxTopLogprobs));
  }
  return ValidateStopTexts(options.stop);
}

}  // namespace weir
