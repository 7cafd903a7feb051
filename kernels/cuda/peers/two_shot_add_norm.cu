#include <algorithm>
#include <cassert>

#include "kernels/cuda/common/bfloat16_vector.cuh"
#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/device_attribute.h"
#include "kernels/cuda/common/rms_norm.cuh"
#include "kernels/cuda/peers/peer_wait.cuh"
#include "kernels/cuda/peers/two_shot_add_norm.h"
#include "kernels/row_share.h"

namespace weir {
namespace {

constexpr int kThreads = kNormThreads;
// What is under way to other GPUs is what fills the links, and blocks that wait for their own
// threads have nothing under way.
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

// The sum of the ranks' vectors at `offset` of the slabs, rounded. All loads are under way before
// the first is used. What other GPUs write here goes through this one's second cache, where all of
// its multiprocessors see it; the loads bypass the first, which may have what was there before.
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
      // What this stream has waited for, products' rows here and copies into the other ranks'
      // slabs, is seen by whoever sees the flag: all of it has ended before this kernel began, and
      // the fence takes in all that came before it, in any memory. So one flag will do for parts
      // that went to several ranks.
      __threadfence_system();
      StoreFlag(&ranks.flags[peer]->ready[ranks.rank], call);
    }
    if (!Await(ranks, &own_flags.ready[peer], call)) well = false;
  }
  __syncthreads();
  if (!well) return;

  const RowShare share = ShareOfRows(rows, ranks.rank, ranks.ranks);
  for (int64_t row = share.begin + blockIdx.x; row < share.end; row += gridDim.x) {
    const int64_t offset = row * width;
    const int64_t slab_offset = (row - share.begin) * width;
    const auto delta = [&](int i) { return SumOfDeltas<kMostRanks>(ranks, slab_offset + i); };
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
  // normed rows that are to be written here have been, and the others have read their slabs. This
  // rank's next parts go there, after this kernel: a rank sends `done` when the
  // last of its blocks has passed the fence below, with its sums in hand, and nothing passes the
  // wait for it. Its own slab a rank overwrites after its own kernel, which alone reads it. Nor can
  // a flag run ahead of one who waits: a rank sends `ready` for the next call only after `done` of
  // all others, which they send when all their blocks have seen `ready`; and `done` only after
  // `ready` of all others, which they send when they have seen `done`.
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
  const int share = static_cast<int>(MostRowsOfShare(rows, ranks.ranks));
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
