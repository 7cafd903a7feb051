#include "kernels/cuda/device_memory.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weir {
namespace {

double Gigabytes(double bytes) { return bytes / 1e9; }

absl::Status DoesNotFit(const std::string& what, int64_t bytes, absl::string_view help) {
  size_t free = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = total = 0;
  if (bytes < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " would take more than any device has. ", help));
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("%s takes %.2f GB of device memory; %.2f of %.2f GB are free. %s", what,
                      Gigabytes(bytes), Gigabytes(free), Gigabytes(total), help));
}

// cudaMemset promises its end only to the default stream, as cudaMemcpy does.
cudaError_t Clear(void* data, int64_t bytes) {
  const cudaError_t error = cudaMemset(data, 0, static_cast<size_t>(bytes));
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}

}  // namespace

absl::StatusOr<DeviceMemory> AllocateDevice(int64_t bytes, const std::string& what,
                                            absl::string_view help) {
  if (bytes < 0) return DoesNotFit(what, bytes, help);
  if (bytes == 0) return DeviceMemory();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is handled
    return DoesNotFit(what, bytes, help);
  }
  if (error != cudaSuccess) return CudaStatus(error, what);
  DeviceMemory memory(data, bytes);
  if (const cudaError_t cleared = Clear(data, bytes); cleared != cudaSuccess) {
    return CudaStatus(cleared, what);
  }
  return memory;
}

absl::StatusOr<PinnedMemory> AllocatePinned(int64_t bytes, const std::string& what) {
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(bytes));
  if (error != cudaSuccess) return CudaStatus(error, what);
  return PinnedMemory(data, bytes);
}

cudaError_t CopyToDevice(void* to, const void* from, int64_t bytes) {
  const cudaError_t error =
      cudaMemcpy(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice);
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}

}  // namespace weir
