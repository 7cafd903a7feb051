#ifndef WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_
#define WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_

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
  absl::Status Sum(Tensor x);
  absl::Status Gather(Tensor x, void* out);

  // Makes the destructor leave memory as it is, because the stream may still use it.
  void Abandon() { scratch_ = nullptr; }

 private:
  // Of as many shares of `share` elements as there are ranks.
  absl::Status SumByShares(Tensor x, int64_t share);
  absl::Status SumGathered(Tensor x);
  // out = the sum of every rank's part of `elements` in the scratch memory.
  absl::Status SumScratch(ElementType type, int64_t elements, void* out);

  NcclGroup& group_;
  void* scratch_ = nullptr;  // [kScratchBytes + kWarmUpBytes]
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_COLLECTIVES_H_
