#ifndef WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_
#define WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/tensor.h"
#include "worker/comm/nccl_group.h"

namespace weir {

// Collectives of tensors of any size, over NCCL, enqueued on the group's stream. Sums are taken in
// rank order, in float32, and rounded once. One thread.
class NcclCollectives {
 public:
  // `group` outlives this.
  explicit NcclCollectives(NcclGroup& group) : group_(group) {}
  // The stream has run all collectives, or Abandon was called.
  ~NcclCollectives();
  NcclCollectives(const NcclCollectives&) = delete;
  NcclCollectives& operator=(const NcclCollectives&) = delete;

  // Before all else. RESOURCE_EXHAUSTED.
  absl::Status Allocate();
  // Runs each once, together with the other ranks.
  absl::Status WarmUp();

  // After BeginCall of the group; `x` is not empty. As AllReduceSum and AllGather of Communicator.
  absl::Status Sum(Tensor x) { return Sum(x, group_.stream()); }
  absl::Status Gather(Tensor x, void* out) { return Gather(x, out, group_.stream()); }

  // As StartSum and FinishSum of Communicator, on a stream of their own. At most kMostStarted are
  // not finished.
  static constexpr int kMostStarted = 4;
  absl::Status StartSum(Tensor x);
  absl::Status FinishSum();

  // Makes the destructor leave memory as it is, because the stream may still use it.
  void Abandon() {
    scratch_ = nullptr;
    side_ = nullptr;
  }

 private:
  // A sum on the side stream: when its tensor is there, and when it is done.
  struct Started {
    cudaEvent_t ready = nullptr;
    cudaEvent_t done = nullptr;
  };

  absl::Status Sum(Tensor x, cudaStream_t stream);
  absl::Status Gather(Tensor x, void* out, cudaStream_t stream);
  // Of as many shares of `share` elements as there are ranks.
  absl::Status SumByShares(Tensor x, int64_t share, cudaStream_t stream);
  absl::Status SumGathered(Tensor x, cudaStream_t stream);
  // out = the sum of every rank's part of `elements` in the scratch memory.
  absl::Status SumScratch(ElementType type, int64_t elements, void* out, cudaStream_t stream);

  NcclGroup& group_;
  void* scratch_ = nullptr;  // [kScratchBytes + kWarmUpBytes]
  cudaStream_t side_ = nullptr;
  Started started_[kMostStarted];
  int64_t starts_ = 0;
  int64_t finishes_ = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_
