#ifndef WEIR_TESTS_KERNELS_CUDA_RANK_STREAMS_H_
#define WEIR_TESTS_KERNELS_CUDA_RANK_STREAMS_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_devices.h"

namespace weir {

// Ranks that are streams of one process, whose kernels wait for one another.
class RankStreams {
 public:
  // Rank r is on GPU devices[r].
  explicit RankStreams(const std::vector<int>& devices) : devices_(devices) {
    CheckCuda(cudaMallocHost(&aborted_, size() * sizeof(*aborted_)));
    std::fill_n(aborted_, size(), 0);
    for (const int device : devices) {
      CheckCuda(cudaSetDevice(device));
      CheckCuda(cudaStreamCreateWithFlags(&streams_.emplace_back(), cudaStreamNonBlocking));
      ReachPeers(device, devices);
    }
  }
  ~RankStreams() {
    for (const cudaStream_t stream : streams_) CheckCuda(cudaStreamDestroy(stream));
    CheckCuda(cudaFreeHost(aborted_));
  }
  RankStreams(const RankStreams&) = delete;
  RankStreams& operator=(const RankStreams&) = delete;

  int size() const { return static_cast<int>(devices_.size()); }
  cudaStream_t stream(int rank) const { return streams_[rank]; }
  // Makes the rank's device the current one.
  void Enter(int rank) const { CheckCuda(cudaSetDevice(devices_[rank])); }

  bool Idle(int rank) const {
    const cudaError_t state = cudaStreamQuery(streams_[rank]);
    if (state == cudaErrorNotReady) return false;
    CheckCuda(state);
    return true;
  }
  bool Idle() const {
    for (int rank = 0; rank < size(); ++rank) {
      if (!Idle(rank)) return false;
    }
    return true;
  }

  // Waits for all ranks. False if they do not come to an end; then they are ended.
  bool Finish(std::chrono::seconds limit = std::chrono::seconds(60)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!Idle()) {
      if (std::chrono::steady_clock::now() < deadline) continue;
      for (int rank = 0; rank < size(); ++rank) Abort(rank);
      for (const cudaStream_t stream : streams_) CheckCuda(cudaStreamSynchronize(stream));
      return false;
    }
    return true;
  }

  // Ends the rank's waits. Its kernels watch this flag.
  void Abort(int rank) { static_cast<volatile unsigned int*>(aborted_)[rank] = 1; }
  const unsigned int* aborted(int rank) const { return aborted_ + rank; }

 private:
  std::vector<int> devices_;
  std::vector<cudaStream_t> streams_;
  unsigned int* aborted_ = nullptr;  // [size()]
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_RANK_STREAMS_H_
