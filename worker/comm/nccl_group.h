#ifndef WEIR_WORKER_COMM_NCCL_GROUP_H_
#define WEIR_WORKER_COMM_NCCL_GROUP_H_

#include <cuda_runtime.h>

#include <chrono>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/cuda/peers/one_shot_link.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/nccl_handle.h"

namespace weir {

// One rank's ties to the others of a group on GPUs: over TCP, NCCL and each other's memory. Knows
// whether the group is well, waits in such a way that a lost rank ends the wait, and ends the group
// so that the stream and the GPU can be used on.
//
// Driven by one thread; only status, Checked and Abort may be called from another.
class NcclGroup {
 public:
  // `host` joins the ranks over TCP.
  NcclGroup(const NcclLibrary& library, const NcclOptions& options,
            std::unique_ptr<Communicator> host);

  int gpu() const { return gpu_; }
  cudaStream_t stream() const { return stream_; }
  int rank() const { return host_->rank(); }
  int size() const { return host_->size(); }
  Communicator& host() { return *host_; }
  NcclHandle& nccl() { return nccl_; }
  // null: GPUs do not reach each other's memory.
  OneShotLink* link() const { return link_.get(); }
  // Only while the group forms.
  void SetLink(std::unique_ptr<OneShotLink> link) { link_ = std::move(link); }

  // ---- How it ends ----

  // Of the first failure, which has ended the group.
  absl::Status status();
  // If `status` is an error, the group is over, because of it or of an earlier one, which is
  // returned.
  absl::Status Checked(const absl::Status& status);
  // As of Communicator.
  absl::Status Poll();
  void Abort() { Checked(absl::CancelledError("the group was aborted")).IgnoreError(); }
  // At last: ends what waits in the stream, and returns whether the stream has run all that was
  // enqueued. If not, although there was time enough, memory that it uses must be left as it is.
  bool End();

  // ---- Waiting ----

  // Before a collective is enqueued: the group's status, and its GPU is the current device.
  absl::Status BeginCall();
  // From now on the stream has the timeout to come to its end.
  void RestartPatience() { last_call_ = std::chrono::steady_clock::now(); }
  // Until NCCL has done what it was called for last.
  absl::Status WaitForNccl(absl::Duration limit);
  // Until the stream has run all that was enqueued.
  absl::Status WaitForStream();
  // Enqueues what `call` says, and returns when it is in the stream.
  absl::Status EnqueueNccl(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call);

 private:
  // Makes what waits for other ranks end, here and there. The others are told first: what the
  // stream sends from then on means nothing. Any thread.
  void Stop();
  // The group is over if the stream has had long enough to end since the last call.
  absl::Status CheckProgress();
  // Returns when done() is true. Ends the group when done() is an error, the group is not well or
  // `limit` has passed.
  absl::Status WaitUntil(absl::Duration limit, absl::FunctionRef<absl::StatusOr<bool>()> done);
  // Whether the stream has run all that was enqueued.
  absl::StatusOr<bool> IsIdle() const;
  // Whether it has within timeout_, whatever becomes of the group.
  bool BecomesIdle() const;
  // The rank that is silent, as far as this one knows.
  absl::Status Silent(absl::Duration time) const;

  const int gpu_;
  const cudaStream_t stream_;
  const absl::Duration timeout_;
  const std::unique_ptr<Communicator> host_;
  std::unique_ptr<OneShotLink> link_;
  NcclHandle nccl_;
  std::chrono::steady_clock::time_point last_call_ = std::chrono::steady_clock::now();

  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_GROUP_H_
