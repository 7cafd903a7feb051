#ifndef WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ALL_REDUCE_H_
#define WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ALL_REDUCE_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace weir {

// Collectives of small tensors among GPUs that can write to each other's memory, one kernel a call:
// every rank sends what it has to every other, and each works out the result for itself. For a few
// rows the time of a collective is its latency, and this has a single one: that of a write.
//
// Every rank has an inbox in its device memory. What is sent there travels in packets of 16 bytes,
// which are written and read as one: 8 of data and 8 that hold the number of the call. A packet
// with the number of the running call is complete, so a receiver waits for the data themselves, and
// there are neither flags nor fences nor barriers. Calls are numbered in device memory, so that a
// launch can be replayed by a CUDA graph.
//
// An inbox has two sides; calls use them in turn. A rank that sends call n + 2 has received all of
// call n + 1; the others sent that after their call n had ended, so nobody reads side n any more.
// This is why every rank makes the same calls in the same order, one after the other.

constexpr int kOneShotMostRanks = 8;
constexpr int kOneShotMostBlocks = 64;

// Bytes of one rank's tensor.
constexpr int64_t kOneShotMostBytes = 256 << 10;

// Bytes of one rank's inbox in a group of `ranks`.
constexpr int64_t OneShotInboxBytes(int ranks) { return 2 * ranks * (2 * kOneShotMostBytes); }

// A group of ranks, as one of them sees it.
struct OneShotRanks {
  int rank;
  int ranks;
  // By rank, where this rank's device reaches them.
  std::byte* inboxes[kOneShotMostRanks];
  // [kOneShotMostBlocks] in this rank's device memory: the number of the last call, once for every
  // block. Before the first call some number, the same on all ranks, that together with those that
  // follow is not in any inbox.
  unsigned long long* calls;
  // In host memory that the device reads. Once it is not 0, waiting for other ranks ends; results
  // mean nothing then.
  const unsigned int* aborted;
  // In this rank's device memory. Zero before the first call; not any more when a wait has ended in
  // vain. From then on this rank sends nothing, which would only mislead the others, and waits for
  // nothing.
  unsigned int* gave_up;
};

// x = the sum of the ranks' x: in rank order, in float32, rounded once. `elements` of `type`, at
// most kOneShotMostBytes; without elements nothing is launched. Takes part in dependent launches
// (dependent_launch.cuh), as all here.
cudaError_t LaunchOneShotSum(const OneShotRanks& ranks, void* x, ElementType type, int64_t elements,
                             cudaStream_t stream);

// out = the ranks' x one after the other, `elements` of each. `out` may not overlap `x`.
cudaError_t LaunchOneShotGather(const OneShotRanks& ranks, const void* x, ElementType type,
                                int64_t elements, void* out, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ALL_REDUCE_H_
