#ifndef WEIR_KERNELS_CUDA_COMMON_DEVICE_ATTRIBUTE_H_
#define WEIR_KERNELS_CUDA_COMMON_DEVICE_ATTRIBUTE_H_

#include <cuda_runtime.h>

namespace weir {

// Sets `value` to an attribute of the current device.
inline cudaError_t GetDeviceAttribute(cudaDeviceAttr attribute, int& value) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error == cudaSuccess ? cudaDeviceGetAttribute(&value, attribute, device) : error;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_DEVICE_ATTRIBUTE_H_
