#ifndef WEIR_KERNELS_CUDA_STREAM_WAIT_H_
#define WEIR_KERNELS_CUDA_STREAM_WAIT_H_

#include <cuda_runtime.h>

#include <functional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace weir {

// How the host waits for a stream whose work may never end by itself: collectives wait for peers,
// which may be gone. While it waits it asks a check, whose error ends the wait (see
// Backend::SetWaitCheck). It polls instead of sleeping: a step is short, and waking up takes longer
// than asking. On the current device. Not thread-safe.
class StreamWait {
 public:
  // Null, as at first: nothing is asked.
  void SetCheck(std::function<absl::Status()> check) { check_ = std::move(check); }

  // Waits until `stream` has run all that was enqueued, and returns how the device says it ended;
  // or returns the check's error, when some of it may still be running. A stream that has ended
  // well is believed only when the check, asked once more, finds nothing: what was waited for may
  // have ended only because a peer gave up.
  absl::StatusOr<cudaError_t> ForStream(cudaStream_t stream) const;

  // Waits until what an upload copied from may be overwritten; `uploaded` is recorded behind it.
  // The upload lies behind everything that was enqueued before it, collectives of a lost peer too:
  // where the check says that the group is over, these end soon, and this waits on without asking.
  // The check's error is left for ForStream to tell.
  cudaError_t ForUpload(cudaEvent_t uploaded) const;

 private:
  // Waits until `query` does not say any more that the device is not ready.
  absl::StatusOr<cudaError_t> Poll(absl::FunctionRef<cudaError_t()> query) const;

  std::function<absl::Status()> check_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_STREAM_WAIT_H_
