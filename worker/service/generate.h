#ifndef WEIR_WORKER_SERVICE_GENERATE_H_
#define WEIR_WORKER_SERVICE_GENERATE_H_

#include <functional>

#include "absl/status/status.h"
#include "weir/v1/generation.pb.h"
#include "worker/service/leader_state.h"

namespace weir {

// Reads the request's input, generates, and hands `write` what comes of it, as generation.proto
// tells it. `write` returns false when nobody reads any more. `cancelled` may be asked on any
// thread, and for a moment after the call has returned.
absl::Status Generate(LeaderState& leader, const v1::GenerateRequest& request,
                      const std::function<bool()>& cancelled,
                      const std::function<bool(const v1::GenerateResponse&)>& write);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_GENERATE_H_
