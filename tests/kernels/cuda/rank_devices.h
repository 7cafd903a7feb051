#ifndef WEIR_TESTS_KERNELS_CUDA_RANK_DEVICES_H_
#define WEIR_TESTS_KERNELS_CUDA_RANK_DEVICES_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "tests/kernels/cuda/device_array.h"

namespace weir {

// Where ranks are that are streams of one process: rank r on GPU devices[r].

// Streams that share a queue of the device might wait for one another. Read when CUDA starts.
[[maybe_unused]] inline const int kManyQueues = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);

// Groups of 1 to 4 and of 8 ranks on the first GPU, and of one on each of 2, 3, ... GPUs that reach
// one another, `most` at most. There is a GPU. WEIR_TEST_MOST_RANKS=1 leaves the first group alone,
// for sanitizers, under which no kernel can wait for another that is launched after it.
inline std::vector<std::vector<int>> RankDevices(int most) {
  if (const char* limit = std::getenv("WEIR_TEST_MOST_RANKS")) {
    most = std::min(most, std::atoi(limit));
  }
  std::vector<std::vector<int>> groups;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    if (ranks <= most) groups.emplace_back(ranks, 0);
  }
  for (int ranks = 2; ranks <= std::min(Gpus(), most); ++ranks) {
    if (!ReachOneAnother(ranks)) continue;
    groups.emplace_back(ranks);
    std::iota(groups.back().begin(), groups.back().end(), 0);
  }
  return groups;
}

// Lets the current device, which is `device`, reach the memory of the others.
inline void ReachPeers(int device, const std::vector<int>& devices) {
  for (const int peer : devices) {
    if (peer == device) continue;
    const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      (void)cudaGetLastError();
    } else {
      CheckCuda(error);
    }
  }
}

inline std::string Describe(const std::vector<int>& devices) {
  std::string words = std::to_string(devices.size()) + " ranks on GPU";
  for (const int device : devices) words.append(" ").append(std::to_string(device));
  return words;
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_RANK_DEVICES_H_
