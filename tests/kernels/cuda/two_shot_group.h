#ifndef WEIR_TESTS_KERNELS_CUDA_TWO_SHOT_GROUP_H_
#define WEIR_TESTS_KERNELS_CUDA_TWO_SHOT_GROUP_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/peers/two_shot_add_norm.h"
#include "kernels/row_share.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/plain_copy.h"
#include "tests/kernels/cuda/rank_streams.h"

namespace weir {

struct SharedShape {
  int rows;
  int width;
  int64_t elements() const { return int64_t{rows} * width; }
};

// What a rank has in its device's memory. Its device is the current one when it is made.
struct SharedRowsOfRank {
  SharedRowsOfRank(const SharedShape& most, int ranks)
      : normed(most.elements()), residual(most.elements()), flags(1), count(1), gave_up(1) {
    const int64_t share = MostRowsOfShare(most.rows, ranks) * most.width;
    for (int rank = 0; rank < ranks; ++rank) {
      slabs.push_back(std::make_unique<DeviceArray<__nv_bfloat16>>(share));
      slabs.back()->FillBytes(0xff);
    }
    normed.FillBytes(0xff);
    flags.FillBytes(0);
    count.FillBytes(0);
    gave_up.FillBytes(0);
  }
  std::vector<std::unique_ptr<DeviceArray<__nv_bfloat16>>> slabs;  // by the rank that writes there
  DeviceArray<__nv_bfloat16> normed;
  DeviceArray<float> residual;
  DeviceArray<TwoShotFlags> flags;
  DeviceArray<TwoShotCount> count;
  DeviceArray<unsigned int> gave_up;
};

// Ranks with the memory that sums of shared rows need.
class TwoShotGroup : public RankStreams {
 public:
  // With room for `most`.
  TwoShotGroup(const std::vector<int>& devices, const SharedShape& most) : RankStreams(devices) {
    for (int rank = 0; rank < size(); ++rank) {
      Enter(rank);
      memory_.push_back(std::make_unique<SharedRowsOfRank>(most, size()));
      CheckCuda(cudaDeviceSynchronize());
    }
  }

  SharedRowsOfRank& memory(int rank) { return *memory_[rank]; }

  // Enqueues what a rank's products do: writes its part of a sum, [rows][width], where its shares
  // are added up.
  void WriteParts(int rank, const __nv_bfloat16* delta, const SharedShape& shape) {
    Enter(rank);
    for (int i = 1; i <= size(); ++i) {
      const int owner = (rank + i) % size();
      const RowShare share = ShareOfRows(shape.rows, owner, size());
      CheckCuda(LaunchPlainCopy(memory(owner).slabs[rank]->data(),
                                delta + share.begin * shape.width,
                                share.rows() * shape.width * sizeof(*delta), stream(rank)));
    }
  }

  void Launch(int rank, const float* weight, float epsilon, const SharedShape& shape) {
    Enter(rank);
    TwoShotRanks ranks = {};
    ranks.rank = rank;
    ranks.ranks = size();
    for (int peer = 0; peer < size(); ++peer) {
      ranks.deltas[peer] = memory(rank).slabs[peer]->data();
      ranks.normed[peer] = memory(peer).normed.data();
      ranks.flags[peer] = memory(peer).flags.data();
    }
    ranks.count = memory(rank).count.data();
    ranks.aborted = aborted(rank);
    ranks.gave_up = memory(rank).gave_up.data();
    CheckCuda(LaunchTwoShotAddNorm(ranks, memory(rank).residual.data(), weight, epsilon, shape.rows,
                                   shape.width, stream(rank)));
  }

 private:
  std::vector<std::unique_ptr<SharedRowsOfRank>> memory_;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_TWO_SHOT_GROUP_H_
