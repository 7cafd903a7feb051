#ifndef WEIR_KERNELS_CUDA_PEERS_RANK_ORDER_SUM_H_
#define WEIR_KERNELS_CUDA_PEERS_RANK_ORDER_SUM_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace weir {

// out[i] = parts[0][i] + parts[1][i] + ..., i < elements: in this order, in float32, rounded once.
// Device memory; `parts` [ranks][elements] without gaps, and `out`, of `type`. `out` may not
// overlap the parts. Takes part in dependent launches (dependent_launch.cuh).
cudaError_t LaunchRankOrderSum(const void* parts, int ranks, ElementType type, int64_t elements,
                               void* out, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_RANK_ORDER_SUM_H_
