#ifndef WEIR_KERNELS_CUDA_PREFILL_TENSOR_MAP_H_
#define WEIR_KERNELS_CUDA_PREFILL_TENSOR_MAP_H_

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/prefill/chunk_attention.h"

namespace weir {

// Describes `rows` x `heads` vectors of a view to the copy engine, as boxes of `box_rows` rows
// by 64 dimensions of one head, in the layout of SharedTile. Coordinates: dimension, row, head.
cudaError_t MakeTensorMap(const ChunkAttention::View& view, int rows, int heads, int head_dim,
                          int box_rows, CUtensorMap* map);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_TENSOR_MAP_H_
