#ifndef WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_LINK_H_
#define WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_LINK_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/cuda/peers/one_shot_add_norm.h"
#include "kernels/cuda/peers/one_shot_all_reduce.h"
#include "kernels/cuda/peers/peer_memory.h"
#include "kernels/tensor.h"

namespace weir {

// One rank's end of one_shot_all_reduce.h: its memory, and that of the others mapped.
//
//   Create; hand card() to all others by other means; Connect; Try; then collectives
//
// One thread, but for Abort.
class OneShotLink {
 public:
  // For rank `rank` of `ranks`, on GPU `device`. RESOURCE_EXHAUSTED, INTERNAL.
  static absl::StatusOr<std::unique_ptr<OneShotLink>> Create(int device, int rank, int ranks);
  // The stream has run all collectives, or Abandon was called.
  ~OneShotLink();
  OneShotLink(const OneShotLink&) = delete;
  OneShotLink& operator=(const OneShotLink&) = delete;

  // What the other ranks need for Connect; GpuOfCard reads it.
  const std::string& card() const { return memory_->card(); }
  // All ranks' cards, by rank. FAILED_PRECONDITION, saying why, where the GPUs cannot reach one
  // another's memory.
  absl::Status Connect(absl::Span<const std::string> cards);
  // Sums a little with the others, who call this too, and looks at what came out. When this takes
  // longer than `patience` the link is aborted. FAILED_PRECONDITION.
  absl::Status Try(cudaStream_t stream, absl::Duration patience);

  // The group, once connected, for other kernels of it.
  const OneShotRanks& ranks() const { return ranks_; }

  // Whether a rank's tensor of `bytes` is small enough.
  static bool Takes(int64_t bytes) { return bytes <= kOneShotMostBytes; }

  // As of Communicator, enqueued. INTERNAL: the launch failed.
  absl::Status AllReduceSum(Tensor x, cudaStream_t stream);
  absl::Status AllGather(Tensor x, Tensor out, cudaStream_t stream);
  absl::Status AddNorm(const OneShotAddNorm& work, cudaStream_t stream);

  // Collectives that wait for other ranks end soon, and later ones too; results mean nothing then.
  // Any thread.
  void Abort();
  // Makes the destructor leave all memory as it is, because a kernel may still use it.
  void Abandon();

 private:
  OneShotLink() = default;

  OneShotRanks ranks_ = {};
  std::unique_ptr<PeerMemory> memory_;
  unsigned int* aborted_ = nullptr;  // host memory that the device reads
  Tensor trial_;                     // in memory_
  bool abandoned_ = false;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_LINK_H_
