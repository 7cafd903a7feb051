#include "worker/comm/nccl_handle.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {

absl::Status NcclHandle::StatusOf(ncclResult_t result) const {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const std::string reason =
      absl::StrCat("NCCL on rank ", rank_, " of ", size_, ": ", library_.GetErrorString(result),
                   " (", library_.GetLastError(nullptr), ")");
  const bool misused = result == ncclInvalidArgument || result == ncclInvalidUsage;
  return misused ? absl::InvalidArgumentError(reason) : absl::UnavailableError(reason);
}

absl::StatusOr<std::string> NcclHandle::NewId() const {
  ncclUniqueId id = {};
  if (absl::Status status = StatusOf(library_.GetUniqueId(&id)); !status.ok()) return status;
  return std::string(id.internal, sizeof(id.internal));
}

absl::Status NcclHandle::Begin(const std::string& id) {
  ncclUniqueId unique = {};
  if (id.size() != sizeof(unique.internal)) {
    return absl::InternalError(absl::StrCat("rank 0 sent an id of NCCL's of ", id.size(),
                                            " bytes instead of ", sizeof(unique.internal)));
  }
  std::memcpy(unique.internal, id.data(), sizeof(unique.internal));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  absl::MutexLock lock(&mutex_);
  return StatusOf(library_.CommInitRankConfig(&communicator_, size_, unique, rank_, &config));
}

ncclResult_t NcclHandle::Use(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call) {
  absl::MutexLock lock(&mutex_);
  return communicator_ == nullptr ? ncclSuccess : call(communicator_);
}

absl::Status NcclHandle::Call(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call) {
  return StatusOf(Use(call));
}

absl::StatusOr<bool> NcclHandle::IsDone() {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = Use(
      [&](ncclComm_t communicator) { return library_.CommGetAsyncError(communicator, &state); });
  if (asked != ncclSuccess) state = asked;
  if (absl::Status status = StatusOf(state); !status.ok()) return status;
  return state == ncclSuccess;
}

void NcclHandle::Abort() {
  absl::MutexLock lock(&mutex_);
  if (communicator_ == nullptr) return;
  aborting_ = std::thread([abort = library_.CommAbort,
                           communicator = std::exchange(communicator_, nullptr), freed = freed_] {
    (void)abort(communicator);
    freed->Notify();
  });
}

void NcclHandle::Join(absl::Duration patience) {
  if (!aborting_.joinable()) return;
  if (freed_->WaitForNotificationWithTimeout(patience)) {
    aborting_.join();
  } else {
    aborting_.detach();
  }
}

}  // namespace weir
