#ifndef WEIR_KERNELS_CUDA_CHUNK_PASS_H_
#define WEIR_KERNELS_CUDA_CHUNK_PASS_H_

#include <cuda_runtime.h>

#include "kernels/cuda/cuda_kv_storage.h"
#include "kernels/cuda/cuda_step.h"
#include "kernels/tensor.h"

namespace weir {

// How column sums of a chunk's attention become scores.
enum class ScoreMode {
  kFast,   // in the attention's own pass, with running normalisers
  kExact,  // in a second pass, with the final ones
};

// What one layer does with a chunk between the projections; tensors as in Backend::Attend and
// Backend::Admit. `hopper`: the card runs the sm_90a kernels; others run the portable one, whose
// column sums are exact.
struct ChunkPass {
  CudaKvStorage& kv;
  int layer;
  const CudaStep& step;  // a chunk
  Tensor qkv;
  Tensor row_scores;
  bool hopper;
  ScoreMode scores;
};

// Rotates, attends, and makes column sums scores.
cudaError_t EnqueueChunkAttention(const ChunkPass& pass, Tensor out, cudaStream_t stream);
// Admits the rows.
cudaError_t EnqueueChunkAdmission(const ChunkPass& pass, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CHUNK_PASS_H_
