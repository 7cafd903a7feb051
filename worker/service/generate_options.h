#ifndef WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_
#define WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_

#include "absl/status/statusor.h"
#include "weir/v1/generation.pb.h"
#include "worker/engine/run.h"

namespace weir {

// Limits of a GenerateRequest, as generation.proto tells them.
inline constexpr double kMaxTemperature = 100;
inline constexpr int kMaxStopTexts = 16;
inline constexpr int kMaxStopTextBytes = 256;
inline constexpr int kMaxTopLogprobs = 20;

// How the request wants its tokens chosen and ended. INVALID_ARGUMENT, naming the field, its value
// and the limit.
absl::StatusOr<GenerateOptions> GenerateOptionsFromProto(const v1::GenerateRequest& request);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_
