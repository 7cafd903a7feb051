#ifndef WEIR_WORKER_SERVICE_SESSIONS_H_
#define WEIR_WORKER_SERVICE_SESSIONS_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "weir/v1/model.pb.h"
#include "weir/v1/session.pb.h"
#include "worker/service/leader_state.h"

namespace weir {

// The calls that create, describe, examine and delete sessions. Errors as session.proto tells them.

// INVALID_ARGUMENT, ALREADY_EXISTS, RESOURCE_EXHAUSTED.
absl::StatusOr<v1::Session> OpenSession(LeaderState& leader, const std::string& id,
                                        const v1::CascadeSettings& settings);

// NOT_FOUND.
absl::StatusOr<v1::Session> DescribeSession(const LeaderState& leader, const std::string& id);

// Ends the session's running call with CANCELLED. NOT_FOUND.
absl::Status CloseSession(LeaderState& leader, const std::string& id);

// Hands `write` one layer after another; it returns false when nobody reads them any more.
absl::Status InspectSession(LeaderState& leader, const v1::InspectSessionRequest& request,
                            const std::function<bool(const v1::InspectSessionResponse&)>& write);

// The model, with the sessions that are open now.
v1::Model DescribeModel(const LeaderState& leader);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_SESSIONS_H_
