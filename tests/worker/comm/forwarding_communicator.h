#ifndef WEIR_TESTS_WORKER_COMM_FORWARDING_COMMUNICATOR_H_
#define WEIR_TESTS_WORKER_COMM_FORWARDING_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace weir {

// Another communicator, of which a test changes something by overriding it.
class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(std::unique_ptr<Communicator> base) : base_(std::move(base)) {}

  int rank() const override { return base_->rank(); }
  int size() const override { return base_->size(); }
  absl::Status AllReduceSum(Tensor x) override { return base_->AllReduceSum(x); }
  absl::Status StartSum(Tensor x) override { return base_->StartSum(x); }
  absl::Status FinishSum() override { return base_->FinishSum(); }
  bool overlaps() const override { return base_->overlaps(); }
  bool FusesNorm(int64_t rows, int64_t cols) const override { return base_->FusesNorm(rows, cols); }
  absl::Status AllReduceAddRmsNorm(Tensor residual, Tensor delta, Tensor weight, float epsilon,
                                   Tensor normed) override {
    return base_->AllReduceAddRmsNorm(residual, delta, weight, epsilon, normed);
  }
  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t rows, int64_t cols) override {
    return base_->ShareRows(rows, cols);
  }
  absl::Status SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) override {
    return base_->SumAddRmsNorm(residual, weight, epsilon);
  }
  absl::Status AllGather(Tensor x, Tensor out) override { return base_->AllGather(x, out); }
  absl::Status Broadcast(std::string& bytes) override { return base_->Broadcast(bytes); }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    return base_->Gather(bytes);
  }
  absl::Status Poll() override { return base_->Poll(); }
  void Abort() override { base_->Abort(); }

 private:
  const std::unique_ptr<Communicator> base_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_FORWARDING_COMMUNICATOR_H_
