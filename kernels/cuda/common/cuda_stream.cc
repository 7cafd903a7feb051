#include "kernels/cuda/common/cuda_stream.h"

#include "kernels/cuda/common/cuda_status.h"

namespace weir {

absl::StatusOr<cudaStream_t> CreateStream(StreamPriority priority) {
  int lowest = 0;
  int highest = 0;
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaDeviceGetStreamPriorityRange(&lowest, &highest);
  if (error == cudaSuccess) {
    error = cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                         priority == StreamPriority::kHigh ? highest : lowest);
  }
  if (error != cudaSuccess) return CudaStatus(error, "creating a stream");
  return stream;
}

}  // namespace weir
