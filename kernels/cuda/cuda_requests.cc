#include "kernels/cuda/cuda_requests.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/decode/likeliest.h"

namespace weir {

absl::StatusOr<std::unique_ptr<CudaRequests>> CudaRequests::Allocate(int rows, int64_t width) {
  if (width > kMostLogitColumns) {
    return absl::UnimplementedError(absl::StrCat("a rank's part of the vocabulary has ", width,
                                                 " tokens; the CUDA backend takes at most ",
                                                 kMostLogitColumns));
  }
  std::unique_ptr<CudaRequests> requests(new CudaRequests());
  requests->rows_ = rows;
  const int64_t bytes = rows * int64_t{sizeof(LikeliestRequest)};
  absl::StatusOr<PinnedMemory> host = AllocatePinned(bytes, "sampling requests' host memory");
  if (!host.ok()) return host.status();
  requests->host_ = *std::move(host);
  absl::StatusOr<DeviceMemory> device = AllocateDevice(bytes, "sampling requests");
  if (!device.ok()) return device.status();
  requests->device_ = *std::move(device);
  absl::StatusOr<DeviceMemory> workspace = AllocateDevice(
      static_cast<int64_t>(LikeliestWorkspaceBytes(rows, width)), "a workspace for sampling");
  if (!workspace.ok()) return workspace.status();
  requests->workspace_ = *std::move(workspace);
  const cudaError_t error = cudaEventCreateWithFlags(&requests->uploaded_, cudaEventDisableTiming);
  if (error != cudaSuccess) return CudaStatus(error, "preparing sampling requests");
  return requests;
}

CudaRequests::~CudaRequests() {
  if (uploaded_ != nullptr) (void)cudaEventDestroy(uploaded_);
}

cudaError_t CudaRequests::Load(absl::Span<const LikeliestRequest> requests, cudaStream_t stream) {
  assert(static_cast<int64_t>(requests.size()) <= rows_);
  LikeliestRequest* host = host_.as<LikeliestRequest>();
  std::fill(std::copy(requests.begin(), requests.end(), host), host + rows_, LikeliestRequest());
  cudaError_t error = cudaMemcpyAsync(device_.as<void>(), host, rows_ * sizeof(LikeliestRequest),
                                      cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) error = cudaEventRecord(uploaded_, stream);
  return error;
}

}  // namespace weir
