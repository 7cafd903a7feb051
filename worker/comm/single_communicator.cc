#include "worker/comm/single_communicator.h"

#include <atomic>
#include <cassert>
#include <cstring>
#include <string>
#include <vector>

namespace weir {
namespace {

class SingleCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduceSum(Tensor) override { return status(); }

  absl::Status AllGather(Tensor x, Tensor out) override {
    assert(out.type == x.type && out.rows == x.rows && out.cols == x.cols);
    if (!status().ok()) return status();
    if (x.elements() > 0) std::memmove(out.data, x.data, x.elements() * ElementBytes(x.type));
    return absl::OkStatus();
  }

  absl::Status Broadcast(std::string&) override { return status(); }

  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    if (!status().ok()) return status();
    return std::vector<std::string>{bytes};
  }

  absl::Status Poll() override { return status(); }

  void Abort() override { aborted_ = true; }

 private:
  absl::Status status() const {
    return aborted_ ? absl::CancelledError("the group was aborted") : absl::OkStatus();
  }

  std::atomic<bool> aborted_ = false;
};

}  // namespace

std::unique_ptr<Communicator> MakeSingleCommunicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace weir
