#ifndef WEIR_KERNELS_CUDA_CUDA_REQUESTS_H_
#define WEIR_KERNELS_CUDA_CUDA_REQUESTS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/likeliest.h"

namespace weir {

// Requests in device memory, at a fixed place, which recordings name; and the memory in which rows
// are reduced as they say.
class CudaRequests final : public DeviceRequests {
 public:
  // UNIMPLEMENTED for rows that are too long.
  static absl::StatusOr<std::unique_ptr<CudaRequests>> Allocate(int rows, int64_t width);
  ~CudaRequests() override;

  // See Backend::LoadRequests. The upload before must be over.
  cudaError_t Load(absl::Span<const LikeliestRequest> requests, cudaStream_t stream);
  // The event of the latest upload.
  cudaEvent_t uploaded() const { return uploaded_; }

  const LikeliestRequest* data() const { return device_.as<const LikeliestRequest>(); }
  void* workspace() const { return workspace_.as<void>(); }

 private:
  CudaRequests() = default;

  int rows_ = 0;
  PinnedMemory host_;
  DeviceMemory device_;
  DeviceMemory workspace_;
  cudaEvent_t uploaded_ = nullptr;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_REQUESTS_H_
