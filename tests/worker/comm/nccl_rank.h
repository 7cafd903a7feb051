#ifndef WEIR_TESTS_WORKER_COMM_NCCL_RANK_H_
#define WEIR_TESTS_WORKER_COMM_NCCL_RANK_H_

// Ranks of tests that join GPUs, what they sum, and what comes of it.

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "kernels/cuda/peers/rank_order_sum.h"
#include "kernels/tensor.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_tensors.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/rendezvous.h"

namespace weir {

using Bytes = std::vector<uint8_t>;

inline void Print(const std::string& sentence) { std::fprintf(stderr, "%s\n", sentence.c_str()); }

// Device memory of the current device, ready for any stream.
class DeviceBytes {
 public:
  explicit DeviceBytes(const Bytes& host) : array_(host) { CheckCuda(cudaDeviceSynchronize()); }
  explicit DeviceBytes(int64_t bytes) : DeviceBytes(Bytes(bytes, 0xff)) {}

  uint8_t* data() const { return array_.data(); }
  // When the stream is idle.
  Bytes Read() const { return array_.Read(); }

 private:
  DeviceArray<uint8_t> array_;
};

inline Tensor Row(const DeviceBytes& bytes, ElementType type, int64_t elements) {
  return {bytes.data(), type, 1, elements};
}

// A rank of a group: its GPU's stream and its communicator. Used by one thread.
class NcclRank {
 public:
  NcclRank(const NcclOptions& options, Rendezvous& rendezvous) {
    CheckCuda(cudaSetDevice(options.gpu));
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    Connect(options, rendezvous);
  }
  ~NcclRank() {
    communicator_.reset();
    CheckCuda(cudaStreamSynchronize(stream_));
    CheckCuda(cudaStreamDestroy(stream_));
  }

  // In place of the communicator there is, if any.
  void Connect(NcclOptions options, Rendezvous& rendezvous) {
    communicator_.reset();
    options.stream = stream_;
    options.log = Print;
    (void)communicator_.emplace(ConnectNcclCommunicator(options, rendezvous));
  }

  absl::Status status() const { return communicator_->status(); }
  Communicator& communicator() { return ***communicator_; }
  void Leave() { communicator_.reset(); }
  cudaStream_t stream() const { return stream_; }

  // Waits for the stream as a backend does, and as results count only if the group is well after
  // them.
  absl::Status Wait() {
    absl::Time asked = absl::Now();
    while (true) {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state == cudaSuccess) return communicator().Poll();
      (void)cudaGetLastError();
      if (state != cudaErrorNotReady) return absl::InternalError(cudaGetErrorString(state));
      if (absl::Now() - asked < absl::Milliseconds(1)) continue;
      asked = absl::Now();
      if (absl::Status status = communicator().Poll(); !status.ok()) return status;
    }
  }

  absl::Status Sum(const DeviceBytes& bytes, ElementType type, int64_t elements) {
    return communicator().AllReduceSum(Row(bytes, type, elements));
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::optional<absl::StatusOr<std::unique_ptr<Communicator>>> communicator_;
};

inline NcclOptions Options(int rank, int size, absl::Duration timeout = absl::Seconds(30)) {
  NcclOptions options;
  options.group = {.rank = rank, .size = size, .timeout = timeout};
  options.gpu = rank;
  return options;
}

struct RankInputs {
  ElementType type = ElementType::kFloat32;
  int64_t elements = 0;
  std::vector<Bytes> inputs;  // by rank
};

inline std::vector<RankInputs> RandomInputs(int size, std::vector<int64_t> lengths) {
  std::mt19937 random(7);
  std::vector<RankInputs> cases;
  for (const ElementType type : {ElementType::kBFloat16, ElementType::kFloat32}) {
    for (const int64_t elements : lengths) {
      RankInputs& added = cases.emplace_back(RankInputs{.type = type, .elements = elements});
      for (int rank = 0; rank < size; ++rank) {
        added.inputs.push_back(RandomTensor(random, type, elements));
      }
    }
  }
  return cases;
}

inline std::vector<Bytes> SumsOf(const std::vector<RankInputs>& cases) {
  std::vector<Bytes> sums;
  for (const RankInputs& one : cases) {
    std::string wrong;
    sums.push_back(SumInOrder(one.inputs, one.type, &wrong));
    EXPECT_EQ(wrong, "");
  }
  return sums;
}

// A graph that sums what lies in `in`, tensor by tensor, into `out`.
class SumGraph {
 public:
  SumGraph(NcclRank& rank, const std::vector<RankInputs>& cases) : cases_(cases) {
    for (const RankInputs& one : cases) {
      in_.push_back(std::make_unique<DeviceBytes>(one.inputs[rank.communicator().rank()]));
      out_.push_back(std::make_unique<DeviceBytes>(static_cast<int64_t>(one.inputs[0].size())));
    }
    graph_.emplace(rank.stream(), [&] {
      absl::Status status;
      for (size_t i = 0; i < cases.size() && status.ok(); ++i) {
        // The sum of one rank is a copy.
        CheckCuda(LaunchRankOrderSum(in_[i]->data(), 1, cases[i].type, cases[i].elements,
                                     out_[i]->data(), rank.stream()));
        status.Update(rank.Sum(*out_[i], cases[i].type, cases[i].elements));
      }
      EXPECT_TRUE(status.ok()) << status;
    });
  }

  void Launch(NcclRank& rank) { graph_->Launch(rank.stream()); }

  // Where the sums are not `sums`; empty if nowhere.
  std::string Difference(const std::vector<Bytes>& sums) const {
    for (size_t i = 0; i < sums.size(); ++i) {
      const std::string difference = FirstDifference(out_[i]->Read(), sums[i], cases_[i].type);
      if (!difference.empty()) {
        return absl::StrCat("sum ", i, " of ", cases_[i].elements, " elements: ", difference);
      }
    }
    return "";
  }

 private:
  const std::vector<RankInputs>& cases_;
  std::vector<std::unique_ptr<DeviceBytes>> in_, out_;
  std::optional<CapturedGraph> graph_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_NCCL_RANK_H_
