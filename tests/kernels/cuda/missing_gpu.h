#ifndef WEIR_TESTS_KERNELS_CUDA_MISSING_GPU_H_
#define WEIR_TESTS_KERNELS_CUDA_MISSING_GPU_H_

// Includes nothing of CUDA, so that tests of a build without it can be skipped too.

#include "absl/status/status.h"

namespace weir {

// Whether `status`, which CheckCudaGpu gave, says that there is no such GPU, or no CUDA in this
// build. A test is skipped for that alone; with any other error it fails.
inline bool IsMissingGpu(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsInvalidArgument(status) ||
         absl::IsUnimplemented(status);
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_MISSING_GPU_H_
