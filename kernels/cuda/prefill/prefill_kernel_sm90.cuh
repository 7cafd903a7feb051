#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_KERNEL_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_KERNEL_SM90_CUH_

// Attention of a chunk on Hopper: output, normalisers and column sums in one pass.
//
// A block has four warpgroups. The first gives most of its registers away and has two roles, of a
// warp each: the producer feeds queries, keys and values through the copy engine, the collector
// adds finished column sums to device memory. The other three, the consumers, compute 64 rows each,
// a tile of keys at a time.
//
// The rows of the three may belong to different query heads of one KV head: keys and values are the
// same for all of them.

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/prefill/prefill_collector_sm90.cuh"
#include "kernels/cuda/prefill/prefill_consumer_sm90.cuh"
#include "kernels/cuda/prefill/prefill_producer_sm90.cuh"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"

namespace weir {

template <int kHeadDim, bool kColumnSums>
__global__ void __launch_bounds__(kPrefillThreads, 1)
    PrefillKernel(const __grid_constant__ PrefillMaps maps,
                  const __grid_constant__ PrefillArguments arguments) {
  using Shared = PrefillShared<kHeadDim>;
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  // The same in all lanes, and the compiler knows.
  const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) {
    BarrierInit(&shared.queries_full, 1);
    BarrierInit(&shared.queries_empty, kConsumerWarps);
    for (int stage = 0; stage < Shared::kStages; ++stage) {
      BarrierInit(&shared.keys_full[stage], 1);
      BarrierInit(&shared.keys_empty[stage], kConsumerWarps);
      BarrierInit(&shared.values_full[stage], 1);
      BarrierInit(&shared.values_empty[stage], kConsumerWarps);
    }
    for (int stage = 0; stage < Shared::kSumStages; ++stage) {
      BarrierInit(&shared.sums_full[stage], kConsumerWarps * 32);
      BarrierInit(&shared.sums_empty[stage], 32);
    }
    BarrierInitFence();
  }
  __syncthreads();

  if (warp < 4) {
    DecreaseRegisters<32>();
    if (warp == 0) {
      if (threadIdx.x == 0) FeedTiles(shared, maps, arguments);
    } else if (kColumnSums && warp == 1) {
      CollectColumnSums(shared, arguments);
    }
  } else {
    IncreaseRegisters<160>();
    PrefillConsumer<kHeadDim, kColumnSums>(shared, arguments, warp / 4 - 1).Run();
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_KERNEL_SM90_CUH_
