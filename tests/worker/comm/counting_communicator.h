#ifndef WEIR_TESTS_WORKER_COMM_COUNTING_COMMUNICATOR_H_
#define WEIR_TESTS_WORKER_COMM_COUNTING_COMMUNICATOR_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "worker/comm/communicator.h"

namespace weir {

// Counts a rank's sums that add to the residual and normalise.
struct FusedSums {
  int of_few_rows = 0;     // AllReduceAddRmsNorm
  int of_shared_rows = 0;  // SumAddRmsNorm
};

class CountingCommunicator : public ForwardingCommunicator {
 public:
  // `sums` outlives this object.
  CountingCommunicator(std::unique_ptr<Communicator> base, FusedSums* sums)
      : ForwardingCommunicator(std::move(base)), sums_(sums) {}

  absl::Status AllReduceAddRmsNorm(Tensor residual, Tensor delta, Tensor weight, float epsilon,
                                   Tensor normed) override {
    ++sums_->of_few_rows;
    return ForwardingCommunicator::AllReduceAddRmsNorm(residual, delta, weight, epsilon, normed);
  }
  absl::Status SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) override {
    ++sums_->of_shared_rows;
    return ForwardingCommunicator::SumAddRmsNorm(residual, weight, epsilon);
  }

 private:
  FusedSums* const sums_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_COUNTING_COMMUNICATOR_H_
