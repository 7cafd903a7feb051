// The CUDA backend of a build without CUDA.

#include "absl/status/status.h"
#include "kernels/cuda/cuda_backend.h"

namespace weir {

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options) {
  return CheckCudaGpu(options.gpu);
}

absl::Status CheckCudaGpu(int) {
  return absl::UnimplementedError(
      "this build of Weir has no CUDA backend: build it with --config=cuda, or use --device=cpu");
}

}  // namespace weir
