#ifndef WEIR_WORKER_SERVICE_CASCADE_SETTINGS_H_
#define WEIR_WORKER_SERVICE_CASCADE_SETTINGS_H_

#include "absl/status/statusor.h"
#include "kernels/cascade_config.h"
#include "weir/v1/session.pb.h"

namespace weir {

// What a session that asks for `settings` gets: fields that are not set come from `defaults`. Says
// nothing about limits, which the engine checks. INVALID_ARGUMENT for an unknown head reduction.
absl::StatusOr<CascadeConfig> CascadeFromProto(const v1::CascadeSettings& settings,
                                               const CascadeConfig& defaults);

// The same as the public API shows it, every field set.
v1::CascadeSettings CascadeToProto(const CascadeConfig& cascade);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_CASCADE_SETTINGS_H_
