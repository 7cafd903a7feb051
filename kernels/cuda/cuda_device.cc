#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elementwise.h"

namespace weir {
namespace {

constexpr int kLeastCapability = 80;

std::string Version(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace

absl::StatusOr<CudaDevice> DescribeCudaDevice(int gpu) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return absl::NotFoundError("there is no NVIDIA driver on this machine; use --device=cpu");
  }
  if (driver / 1000 < CUDART_VERSION / 1000) {
    return absl::NotFoundError(absl::StrCat(
        "the NVIDIA driver supports CUDA ", Version(driver), "; this build of Weir needs CUDA ",
        Version(CUDART_VERSION), ": update the driver, or use --device=cpu"));
  }
  int gpus = 0;
  const cudaError_t counted = cudaGetDeviceCount(&gpus);
  if (counted != cudaSuccess && counted != cudaErrorNoDevice) {
    (void)cudaGetLastError();  // it is told here
    return absl::InternalError(absl::StrCat("CUDA cannot use this machine's GPUs (",
                                            cudaGetErrorString(counted), "); use --device=cpu"));
  }
  if (gpus == 0) {
    return absl::NotFoundError(
        absl::StrCat("there is no GPU that CUDA can use (",
                     counted == cudaSuccess ? "none is visible" : cudaGetErrorString(counted),
                     "); use --device=cpu"));
  }
  if (gpu < 0 || gpu >= gpus) {
    return absl::InvalidArgumentError(
        absl::StrCat("GPU ", gpu, " is asked for; this machine has ", gpus,
                     gpus == 1 ? " GPU, number 0" : " GPUs, numbered from 0"));
  }
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, gpu);
  if (error != cudaSuccess) return CudaStatus(error, "asking for the GPU's properties");
  CudaDevice device = {.gpu = gpu,
                       .name = properties.name,
                       .capability = properties.major * 10 + properties.minor,
                       .multiprocessors = properties.multiProcessorCount};
  if (device.capability < kLeastCapability) {
    return absl::UnimplementedError(absl::StrCat("GPU ", gpu, ", ", device.name,
                                                 ", has compute capability ", properties.major, ".",
                                                 properties.minor, "; Weir needs 8.0 or newer"));
  }
  return device;
}

absl::Status CheckCudaGpu(int gpu) { return DescribeCudaDevice(gpu).status(); }

absl::StatusOr<CudaDevice> OpenCudaDevice(int gpu) {
  absl::StatusOr<CudaDevice> device = DescribeCudaDevice(gpu);
  if (!device.ok()) return device;
  cudaError_t error = cudaSetDevice(gpu);
  if (error != cudaSuccess) return CudaStatus(error, absl::StrCat("opening GPU ", gpu));
  error = CheckElementwiseCode();
  if (error == cudaErrorNoKernelImageForDevice) {
    (void)cudaGetLastError();  // it is told here
    return absl::UnimplementedError(
        absl::StrCat("this build of Weir has no code for GPU ", gpu, ", ", device->name,
                     ", of compute capability ", device->capability / 10, ".",
                     device->capability % 10, ": build it with ", device->capability,
                     " added to --//bazel:cuda_architectures, or use --device=cpu"));
  }
  if (error != cudaSuccess) return CudaStatus(error, absl::StrCat("opening GPU ", gpu));
  return device;
}

}  // namespace weir
