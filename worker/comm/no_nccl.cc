// In place of nccl_communicator.cc in a build without CUDA.

#include "absl/status/status.h"
#include "worker/comm/nccl_communicator.h"

namespace weir {

absl::StatusOr<std::unique_ptr<Communicator>> ConnectNcclCommunicator(const NcclOptions&,
                                                                      Rendezvous&) {
  return absl::UnimplementedError("this build of Weir has no NCCL; ranks cannot be GPUs");
}

}  // namespace weir
