#ifndef WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_
#define WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_

#include "absl/status/statusor.h"
#include "weir/v1/generation.pb.h"
#include "worker/engine/run.h"

namespace weir {

// How the request wants its tokens chosen and ended. Errors as ValidateGenerateOptions.
absl::StatusOr<GenerateOptions> GenerateOptionsFromProto(const v1::GenerateRequest& request);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GENERATE_OPTIONS_H_
