#include "kernels/cuda/stream_wait.h"

#include <chrono>

namespace weir {
namespace {

constexpr std::chrono::milliseconds kCheckInterval{1};

}  // namespace

absl::StatusOr<cudaError_t> StreamWait::ForStream(cudaStream_t stream) const {
  const absl::StatusOr<cudaError_t> ended = Poll([stream] { return cudaStreamQuery(stream); });
  if (!ended.ok() || *ended != cudaSuccess || check_ == nullptr) return ended;
  if (absl::Status status = check_(); !status.ok()) return status;
  return ended;
}

cudaError_t StreamWait::ForUpload(cudaEvent_t uploaded) const {
  const absl::StatusOr<cudaError_t> ended = Poll([uploaded] { return cudaEventQuery(uploaded); });
  return ended.ok() ? *ended : cudaEventSynchronize(uploaded);
}

absl::StatusOr<cudaError_t> StreamWait::Poll(absl::FunctionRef<cudaError_t()> query) const {
  auto checked = std::chrono::steady_clock::now();
  cudaError_t state = cudaSuccess;
  while ((state = query()) == cudaErrorNotReady) {
    (void)cudaGetLastError();  // it is no fault, and must not be taken for a launch's
    const auto now = std::chrono::steady_clock::now();
    if (check_ == nullptr || now - checked < kCheckInterval) continue;
    checked = now;
    if (absl::Status status = check_(); !status.ok()) return status;
  }
  return state;
}

}  // namespace weir
