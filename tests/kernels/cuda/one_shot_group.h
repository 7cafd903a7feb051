#ifndef WEIR_TESTS_KERNELS_CUDA_ONE_SHOT_GROUP_H_
#define WEIR_TESTS_KERNELS_CUDA_ONE_SHOT_GROUP_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/peers/one_shot_all_reduce.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_streams.h"

namespace weir {

using Bytes = std::vector<uint8_t>;

// Memory of one rank, on its device.
class RankMemory {
 public:
  RankMemory(int device, int64_t bytes) : device_(device), bytes_(bytes) {
    CheckCuda(cudaSetDevice(device));
    CheckCuda(cudaMalloc(&data_, bytes));
  }
  ~RankMemory() {
    CheckCuda(cudaSetDevice(device_));
    CheckCuda(cudaFree(data_));
  }
  RankMemory(const RankMemory&) = delete;
  RankMemory& operator=(const RankMemory&) = delete;

  uint8_t* data() const { return data_; }
  void Fill(int value) {
    CheckCuda(cudaSetDevice(device_));
    CheckCuda(cudaMemset(data_, value, bytes_));
    CheckCuda(cudaDeviceSynchronize());
  }
  void Write(int64_t offset, const Bytes& from) {
    CheckCuda(cudaSetDevice(device_));
    CheckCuda(cudaMemcpy(data_ + offset, from.data(), from.size(), cudaMemcpyHostToDevice));
    CheckCuda(cudaDeviceSynchronize());  // It may return before the last bytes are there.
  }
  Bytes Read(int64_t offset, int64_t bytes) const {
    Bytes host(bytes);
    CheckCuda(cudaMemcpy(host.data(), data_ + offset, bytes, cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  int device_;
  int64_t bytes_;
  uint8_t* data_ = nullptr;
};

// Ranks with the memory that their collectives need.
class OneShotGroup : public RankStreams {
 public:
  explicit OneShotGroup(const std::vector<int>& devices) : RankStreams(devices) {
    for (const int device : devices) {
      inboxes_.push_back(std::make_unique<RankMemory>(device, OneShotInboxBytes(size())));
      // And the flag behind the calls.
      calls_.push_back(std::make_unique<RankMemory>(device, kOneShotMostBlocks * 8 + 8));
      inboxes_.back()->Fill(0);
      calls_.back()->Fill(0);
    }
  }

  // What rank `rank` launches with; makes its device the current one.
  OneShotRanks Enter(int rank) const {
    RankStreams::Enter(rank);
    OneShotRanks ranks = {};
    ranks.rank = rank;
    ranks.ranks = size();
    for (int peer = 0; peer < size(); ++peer) {
      ranks.inboxes[peer] = reinterpret_cast<std::byte*>(inboxes_[peer]->data());
    }
    ranks.calls = reinterpret_cast<unsigned long long*>(calls_[rank]->data());
    ranks.aborted = aborted(rank);
    ranks.gave_up = reinterpret_cast<unsigned int*>(ranks.calls + kOneShotMostBlocks);
    return ranks;
  }

 private:
  std::vector<std::unique_ptr<RankMemory>> inboxes_;
  std::vector<std::unique_ptr<RankMemory>> calls_;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_ONE_SHOT_GROUP_H_
