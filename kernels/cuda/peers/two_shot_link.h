#ifndef WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_LINK_H_
#define WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_LINK_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/peers/one_shot_link.h"
#include "kernels/cuda/peers/peer_memory.h"
#include "kernels/cuda/peers/two_shot_add_norm.h"
#include "kernels/tensor.h"

namespace weir {

// One rank's end of two_shot_add_norm.h: the rows that ranks write into each other's memory.
//
//   Create; hand card() to all others by other means; Connect; when all have, AddNorm
//
// One thread.
class TwoShotLink {
 public:
  // Room for `rows` rows of `width`. `link` is connected to the same ranks and outlives this
  // object: its end is this one's as well. RESOURCE_EXHAUSTED, INTERNAL.
  static absl::StatusOr<std::unique_ptr<TwoShotLink>> Create(const OneShotLink& link, int device,
                                                             int64_t rows, int64_t width);
  // The stream has run all that was enqueued, or Abandon was called.
  ~TwoShotLink() = default;
  TwoShotLink(const TwoShotLink&) = delete;
  TwoShotLink& operator=(const TwoShotLink&) = delete;

  const std::string& card() const { return memory_->card(); }
  // All ranks' cards, by rank. FAILED_PRECONDITION where the GPUs cannot reach one another's
  // memory.
  absl::Status Connect(absl::Span<const std::string> cards);

  // bfloat16, as of SharedRows (worker/comm/communicator.h): where this rank writes its parts of a
  // sum, by rank, in that rank's memory, once connected; and [rows, width] what becomes of the sum.
  const std::vector<Tensor>& deltas() const { return deltas_; }
  Tensor normed() const { return normed_; }

  // Enqueues LaunchTwoShotAddNorm on as many of the first rows as `residual` has. All ranks call it
  // with as many. INTERNAL: the launch failed.
  absl::Status AddNorm(Tensor residual, Tensor weight, float epsilon, cudaStream_t stream);

  // Makes the destructor leave all memory as it is, because a kernel may still use it.
  void Abandon() { memory_->Abandon(); }

 private:
  TwoShotLink() = default;

  TwoShotRanks ranks_ = {};
  std::unique_ptr<PeerMemory> memory_;
  std::vector<Tensor> deltas_;
  Tensor normed_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_LINK_H_
