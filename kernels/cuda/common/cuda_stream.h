#ifndef WEIR_KERNELS_CUDA_COMMON_CUDA_STREAM_H_
#define WEIR_KERNELS_CUDA_COMMON_CUDA_STREAM_H_

#include <cuda_runtime.h>

#include "absl/status/statusor.h"

namespace weir {

// Whose blocks get the places that become free, where kernels of several streams want them.
// Recorded steps keep what their streams have.
enum class StreamPriority {
  kHigh,  // what the next token waits for
  kLow,   // what may take its time
};

// A stream of the current device that does not wait for the default stream; the caller destroys it.
// INTERNAL.
absl::StatusOr<cudaStream_t> CreateStream(StreamPriority priority);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_CUDA_STREAM_H_
