#include "kernels/cuda/side_stream.h"

#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/common/cuda_stream.h"

namespace weir {

absl::StatusOr<std::unique_ptr<SideStream>> SideStream::Create() {
  const absl::StatusOr<cudaStream_t> stream = CreateStream(StreamPriority::kLow);
  if (!stream.ok()) return stream.status();
  std::unique_ptr<SideStream> side(new SideStream);
  side->stream_ = *stream;
  cudaError_t error = cudaSuccess;
  for (cudaEvent_t* event : {&side->forked_, &side->joined_}) {
    if (error == cudaSuccess) error = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
  }
  if (error != cudaSuccess) return CudaStatus(error, "creating a second stream's events");
  return side;
}

SideStream::~SideStream() {
  for (const cudaEvent_t event : {forked_, joined_}) {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

cudaError_t SideStream::Fork(cudaStream_t main) {
  apart_ = true;
  const cudaError_t error = cudaEventRecord(forked_, main);
  return error != cudaSuccess ? error : cudaStreamWaitEvent(stream_, forked_);
}

cudaError_t SideStream::Join(cudaStream_t main) {
  if (!apart_) return cudaSuccess;
  apart_ = false;
  const cudaError_t error = cudaEventRecord(joined_, stream_);
  return error != cudaSuccess ? error : cudaStreamWaitEvent(main, joined_);
}

}  // namespace weir
