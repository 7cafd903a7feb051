#ifndef WEIR_PROTO_GRPC_STATUS_H_
#define WEIR_PROTO_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace weir {

// The one place where errors change between their form inside a process and that on the wire. Both
// have the same codes; what travels is code and message.

grpc::Status ToGrpcStatus(const absl::Status& status);

// A code that absl does not know becomes UNKNOWN.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace weir

#endif  // WEIR_PROTO_GRPC_STATUS_H_
