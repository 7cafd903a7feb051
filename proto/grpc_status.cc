#include "proto/grpc_status.h"

#include <string>

namespace weir {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()),
                      std::string(status.message()));
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // absl::Status::code() maps a number that it does not know to kUnknown; settle it here.
  const absl::Status converted(static_cast<absl::StatusCode>(status.error_code()),
                               status.error_message());
  return absl::Status(converted.code(), status.error_message());
}

}  // namespace weir
