#ifndef WEIR_KERNELS_CUDA_PEERS_PEER_WAIT_CUH_
#define WEIR_KERNELS_CUDA_PEERS_PEER_WAIT_CUH_

#include <cuda_runtime.h>

namespace weir {

// How many times a kernel that waits for another rank looks at its own memory between two looks at
// the flag in host memory: some milliseconds. Thousands of threads that read across PCIe hold their
// rank up for a quarter of a millisecond; were that done within the time that a rank may be late,
// the other would be held up at the next call, and so on by turns.
constexpr int kLooksPerFlag = 1 << 14;

// Whether to give up after `look` looks, counted from 1: the host has set `aborted`. Notes it in
// `gave_up`. Both as of OneShotRanks (one_shot_all_reduce.h).
__device__ inline bool GivesUp(int look, const unsigned int* aborted, unsigned int* gave_up) {
  if (look % kLooksPerFlag != 0 || *static_cast<const volatile unsigned int*>(aborted) == 0) {
    return false;
  }
  __stcg(gave_up, 1u);
  return true;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_PEER_WAIT_CUH_
