#ifndef WEIR_KERNELS_CUDA_COMMON_CUDA_STATUS_H_
#define WEIR_KERNELS_CUDA_COMMON_CUDA_STATUS_H_

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

// OK, or what CUDA says went wrong while doing `what`: RESOURCE_EXHAUSTED for memory, INTERNAL. The
// error is told here, so CUDA is made to forget it if it can.
absl::Status CudaStatus(cudaError_t error, absl::string_view what);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_CUDA_STATUS_H_
