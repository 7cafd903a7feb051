#ifndef WEIR_KERNELS_CUDA_CUDA_DEVICE_H_
#define WEIR_KERNELS_CUDA_CUDA_DEVICE_H_

#include <string>

#include "absl/status/statusor.h"

namespace weir {

// What a GPU is, as far as kernels are chosen by it.
struct CudaDevice {
  int gpu = 0;  // among the visible ones
  std::string name;
  int capability = 0;  // 90 for 9.0
  int multiprocessors = 0;

  bool hopper() const { return capability == 90; }
};

// Describes a GPU without touching it. Errors: see CheckCudaGpu.
absl::StatusOr<CudaDevice> DescribeCudaDevice(int gpu);

// Makes a GPU this thread's and describes it. Errors: see CreateCudaBackend.
absl::StatusOr<CudaDevice> OpenCudaDevice(int gpu);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_DEVICE_H_
