#ifndef WEIR_WORKER_COMM_NCCL_HANDLE_H_
#define WEIR_WORKER_COMM_NCCL_HANDLE_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "worker/comm/nccl_library.h"

namespace weir {

// One rank's NCCL communicator, which does not block: calls return before NCCL has done what they
// say. Errors are INVALID_ARGUMENT where NCCL was misused and otherwise UNAVAILABLE, since most of
// what else goes wrong is another rank that has gone. Thread-safe, but for Join.
class NcclHandle {
 public:
  NcclHandle(const NcclLibrary& library, int rank, int size)
      : library_(library), rank_(rank), size_(size) {}
  // Once Begin was called: after Abort and Join.
  ~NcclHandle() = default;

  // The functions that `call` of Call calls.
  const NcclLibrary& library() const { return library_; }

  // What rank 0 hands to all ranks, for Begin.
  absl::StatusOr<std::string> NewId() const;
  // Begins to connect the ranks.
  absl::Status Begin(const std::string& id);
  // Calls `call`, unless there is no communicator any more.
  absl::Status Call(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call);
  // Whether NCCL has done what it was called for last. An error: what has gone wrong since.
  absl::StatusOr<bool> IsDone();

  // Makes its kernels end and frees it, on a thread of its own: this lasts until no CUDA graph that
  // captured them exists any more.
  void Abort();
  // After Abort: waits for it, but not longer than `patience`.
  void Join(absl::Duration patience);

 private:
  ncclResult_t Use(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call);
  absl::Status StatusOf(ncclResult_t result) const;

  const NcclLibrary& library_;
  const int rank_;
  const int size_;

  absl::Mutex mutex_;
  ncclComm_t communicator_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread aborting_;
  const std::shared_ptr<absl::Notification> freed_ = std::make_shared<absl::Notification>();
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_HANDLE_H_
