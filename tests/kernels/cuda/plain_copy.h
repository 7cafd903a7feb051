#ifndef WEIR_TESTS_KERNELS_CUDA_PLAIN_COPY_H_
#define WEIR_TESTS_KERNELS_CUDA_PLAIN_COPY_H_

#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// Copies within what the current device reaches, by a kernel that takes room on the device only
// when all before it in the stream is over, and keeps no copy engine from other streams: for ranks
// that share a GPU and wait for one another. `bytes` is a multiple of 8, and may be 0.
cudaError_t LaunchPlainCopy(void* to, const void* from, int64_t bytes, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_PLAIN_COPY_H_
