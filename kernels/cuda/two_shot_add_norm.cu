#include <algorithm>
#include <cassert>

#include "kernels/cuda/bfloat16_vector.cuh"
#include "kernels/cuda/dependent_launch.cuh"
#include "kernels/cuda/device_attribute.h"
#include "kernels/cuda/peer_wait.cuh"
#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/two_shot_add_norm.h"

namespace weir {
namespace {

constexpr int kThreads = kNormThreads;
// What is under way to and from other GPUs is what fills the links, and blocks that wait for their
// own threads have nothing under way.
constexpr int kBlocksPerMultiprocessor = 2;

__device__ void StoreFlag(unsigned long long* flag, unsigned long long call) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(flag), "l"(call) : "memory");
}
__device__ unsigned long long LoadFlag(const unsigned long long* flag) {
  unsigned long long call;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(call) : "l"(flag) : "memory");
  return call;
}

// Whether the flag has come to `call`; false when the group is over.
__device__ bool Await(const TwoShotRanks& ranks, const unsigned long long* flag,
                      unsigned long long call) {
  for (int look = 1; LoadFlag(flag) != call; ++look) {
    if (GivesUp(look, ranks.aborted, ranks.gave_up)) return false;
  }
  return true;
}

// The sum of the ranks' vectors at `offset`, rounded. All loads are under way before the first is
// used. They bypass the first cache, which keeps what it has of other GPUs' memory.
template <int kMostRanks>
__device__ BFloat16Vector SumOfDeltas(const TwoShotRanks& ranks, int64_t offset) {
  BFloat16Vector parts[kMostRanks];
#pragma unroll
  for (int rank = 0; rank < kMostRanks; ++rank) {
    if (rank < ranks.ranks) {
      parts[rank].bits = __ldcg(reinterpret_cast<const uint4*>(ranks.deltas[rank] + offset));
    }
  }
  float sum[kVector];
  parts[0].Unpack(sum);
#pragma unroll
  for (int rank = 1; rank < kMostRanks; ++rank) {
    if (rank >= ranks.ranks) continue;
    float values[kVector];
    parts[rank].Unpack(values);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] += values[i];
  }
  return BFloat16Vector::Round(sum);
}

template <int kMostRanks>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    TwoShotKernel(const __grid_constant__ TwoShotRanks ranks, float* residual, const float* weight,
                  float epsilon, int rows, int width) {
  __shared__ bool well;
  __shared__ bool last;
  WaitForEarlierKernels();
  AllowLaterKernels();
  // One thread for every other rank.
  const int peer = threadIdx.x;
  const bool has_peer = peer < ranks.ranks && peer != ranks.rank;
  const TwoShotFlags& own_flags = *ranks.flags[ranks.rank];
  const unsigned long long call = __ldcg(&ranks.count->call) + 1;
  if (threadIdx.x == 0) well = __ldcg(ranks.gave_up) == 0;
  __syncthreads();
  if (!well) return;
  __syncthreads();  // before anybody writes it again
  if (has_peer) {
    if (blockIdx.x == 0) {
      __threadfence_system();  // what earlier kernels wrote
      StoreFlag(&ranks.flags[peer]->ready[ranks.rank], call);
    }
    if (!Await(ranks, &own_flags.ready[peer], call)) well = false;
  }
  __syncthreads();
  if (!well) return;

  const int64_t begin = int64_t{rows} * ranks.rank / ranks.ranks;
  const int64_t end = int64_t{rows} * (ranks.rank + 1) / ranks.ranks;
  for (int64_t row = begin + blockIdx.x; row < end; row += gridDim.x) {
    const int64_t offset = row * width;
    const auto delta = [&](int i) { return SumOfDeltas<kMostRanks>(ranks, offset + i); };
    const auto store = [&](const BFloat16Vector& vector, int i) {
#pragma unroll
      for (int rank = 0; rank < kMostRanks; ++rank) {
        if (rank < ranks.ranks) vector.Store(ranks.normed[rank] + offset + i);
      }
    };
    RmsNormRow</*kAdd=*/true>(residual + offset, delta, weight, epsilon, width, store);
    __syncthreads();  // before the next row's sums
  }

  // The block that ends last tells the others and waits for them, so that the kernel ends when all
  // that is to be written here has been, and the others no longer read this rank's delta.
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence_system();
    last = atomicAdd(&ranks.count->blocks_done, 1) == gridDim.x - 1;
    __threadfence_system();
  }
  __syncthreads();
  if (!last) return;
  if (threadIdx.x == 0) {
    ranks.count->blocks_done = 0;
    ranks.count->call = call;
  }
  if (has_peer) {
    StoreFlag(&ranks.flags[peer]->done[ranks.rank], call);
    (void)Await(ranks, &own_flags.done[peer], call);
  }
}

template <int kMostRanks>
cudaError_t Launch(const TwoShotRanks& ranks, float* residual, const float* weight, float epsilon,
                   int rows, int width, cudaStream_t stream) {
  int multiprocessors = 0;
  const cudaError_t error = GetDeviceAttribute(cudaDevAttrMultiProcessorCount, multiprocessors);
  if (error != cudaSuccess) return error;
  const int share = (rows + ranks.ranks - 1) / ranks.ranks;
  const int blocks = std::min(share, kBlocksPerMultiprocessor * multiprocessors);
  return LaunchDependent(TwoShotKernel<kMostRanks>, blocks, kThreads, 0, stream, ranks, residual,
                         weight, epsilon, rows, width);
}

}  // namespace

cudaError_t LaunchTwoShotAddNorm(const TwoShotRanks& ranks, float* residual, const float* weight,
                                 float epsilon, int rows, int width, cudaStream_t stream) {
  assert(ranks.ranks >= 1 && ranks.ranks <= kTwoShotMostRanks);
  assert(ranks.rank >= 0 && ranks.rank < ranks.ranks);
  assert(rows > 0 && width % kVector == 0);
  const auto launch = ranks.ranks <= 2   ? Launch<2>
                      : ranks.ranks <= 4 ? Launch<4>
                                         : Launch<kTwoShotMostRanks>;
  return launch(ranks, residual, weight, epsilon, rows, width, stream);
}

}  // namespace weir
