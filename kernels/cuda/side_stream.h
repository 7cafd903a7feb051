#ifndef WEIR_KERNELS_CUDA_SIDE_STREAM_H_
#define WEIR_KERNELS_CUDA_SIDE_STREAM_H_

#include <cuda_runtime.h>

#include <memory>

#include "absl/status/statusor.h"

namespace weir {

// A second stream, of low priority, for work that a main stream need not wait for at once. Where
// the main stream is being captured, this one's work becomes a branch of the graph. Not
// thread-safe.
class SideStream {
 public:
  // On the current device. INTERNAL.
  static absl::StatusOr<std::unique_ptr<SideStream>> Create();
  // The stream has run all that was enqueued.
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  cudaStream_t stream() const { return stream_; }
  // What is enqueued here next runs behind what `main` has been given so far.
  cudaError_t Fork(cudaStream_t main);
  // What `main` is given next runs behind what has been enqueued here since the last Join, if
  // anything.
  cudaError_t Join(cudaStream_t main);

 private:
  SideStream() = default;

  cudaStream_t stream_ = nullptr;
  cudaEvent_t forked_ = nullptr;
  cudaEvent_t joined_ = nullptr;
  bool apart_ = false;  // between Fork and Join
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_SIDE_STREAM_H_
