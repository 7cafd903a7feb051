#ifndef WEIR_KERNELS_CUDA_CUDA_BACKEND_H_
#define WEIR_KERNELS_CUDA_CUDA_BACKEND_H_

// Includes nothing of CUDA: a build without it has the same header, and a function that says so.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace weir {

struct CudaOptions {
  // Which of the visible GPUs.
  int gpu = 0;
  // Scores of a chunk's keys from a second pass with the final normalisers, instead of from the
  // attention's own pass (docs/kernels.md).
  bool exact_scores = false;
};

// The backend for one NVIDIA GPU of compute capability 8.0 or newer; Hopper has kernels of its own.
// Activations, weights, keys and values are bfloat16, sums float32. Heads have 64 or 128
// dimensions. A step is either one sequence or sequences of a row each. Attend admits the rows of
// the latter too, so that Admit has nothing left to do.
//
// A step's results do not depend on what other sequences are in it, bit for bit. All device memory
// is allocated at start.
//
// UNIMPLEMENTED in a build without CUDA; NOT_FOUND when there is no driver or GPU, or the
// driver is too old; INVALID_ARGUMENT for a GPU that does not exist; UNIMPLEMENTED for one that is
// too old. Each is one sentence.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options);

// What of that can be told without touching the GPU.
absl::Status CheckCudaGpu(int gpu);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_BACKEND_H_
