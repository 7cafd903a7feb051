#include "worker/comm/nccl_collectives.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/common/cuda_stream.h"
#include "kernels/cuda/peers/rank_order_sum.h"

namespace weir {
namespace {

// Sums of more than two ranks go through memory of this size, piece by piece. Behind it are a few
// bytes for what is summed when ranks connect.
constexpr int64_t kScratchBytes = 16 << 20;
constexpr int64_t kWarmUpBytes = 64 << 10;
// Shares of a sum are whole multiples of this, so that they begin where memory is fast.
constexpr int64_t kShareElements = 64;

ncclDataType_t TypeOf(const Tensor& x) {
  return x.type == ElementType::kBFloat16 ? ncclBfloat16 : ncclFloat32;
}

}  // namespace

NcclCollectives::~NcclCollectives() {
  if (side_ != nullptr) {
    (void)cudaStreamSynchronize(side_);
    (void)cudaStreamDestroy(side_);
  }
  for (const Started& started : started_) {
    if (started.ready != nullptr) (void)cudaEventDestroy(started.ready);
    if (started.done != nullptr) (void)cudaEventDestroy(started.done);
  }
  if (scratch_ != nullptr) (void)cudaFree(scratch_);
}

absl::Status NcclCollectives::Allocate() {
  absl::Status status =
      CudaStatus(cudaMalloc(&scratch_, kScratchBytes + kWarmUpBytes), "memory for sums");
  if (status.ok()) {
    const absl::StatusOr<cudaStream_t> side = CreateStream(StreamPriority::kHigh);
    if (side.ok()) side_ = *side;
    status.Update(side.status());
  }
  for (Started& started : started_) {
    for (cudaEvent_t* event : {&started.ready, &started.done}) {
      if (!status.ok()) return status;
      status.Update(CudaStatus(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                               "cannot create an event"));
    }
  }
  return status;
}

absl::Status NcclCollectives::StartSum(Tensor x) {
  assert(starts_ - finishes_ < kMostStarted);
  const Started& started = started_[starts_++ % kMostStarted];
  cudaError_t error = cudaEventRecord(started.ready, group_.stream());
  if (error == cudaSuccess) error = cudaStreamWaitEvent(side_, started.ready);
  absl::Status status = group_.Checked(CudaStatus(error, "cannot start a sum"));
  if (status.ok()) status.Update(Sum(x, side_));
  if (!status.ok()) return status;
  return group_.Checked(
      CudaStatus(cudaEventRecord(started.done, side_), "cannot record the end of a sum"));
}

absl::Status NcclCollectives::FinishSum() {
  assert(finishes_ < starts_);
  const Started& started = started_[finishes_++ % kMostStarted];
  return group_.Checked(
      CudaStatus(cudaStreamWaitEvent(group_.stream(), started.done), "cannot wait for a sum"));
}

absl::Status NcclCollectives::WarmUp() {
  // What is to go wrong shall go wrong here, and what NCCL makes at the first use be made.
  const Tensor x{static_cast<std::byte*>(scratch_) + kScratchBytes, ElementType::kBFloat16, 1,
                 group_.size() * kShareElements + 1};
  assert(x.elements() * ElementBytes(x.type) <= kWarmUpBytes);
  absl::Status status =
      CudaStatus(cudaMemsetAsync(x.data, 0, kWarmUpBytes, group_.stream()), "cannot clear");
  if (status.ok()) status.Update(Sum(x));
  if (status.ok()) status.Update(Gather(x, scratch_));
  if (status.ok()) status.Update(group_.WaitForStream());
  return status;
}

absl::Status NcclCollectives::Gather(Tensor x, void* out, cudaStream_t stream) {
  return group_.EnqueueNccl([&](ncclComm_t communicator) {
    return group_.nccl().library().AllGather(x.data, out, x.elements(), TypeOf(x), communicator,
                                             stream);
  });
}

absl::Status NcclCollectives::Sum(Tensor x, cudaStream_t stream) {
  const int size = group_.size();
  if (size <= 2) {
    // Two have no order but one, and their sum is rounded once.
    return group_.EnqueueNccl([&](ncclComm_t communicator) {
      return group_.nccl().library().AllReduce(x.data, x.data, x.elements(), TypeOf(x), ncclSum,
                                               communicator, stream);
    });
  }
  const int64_t fit = kScratchBytes / ElementBytes(x.type);
  for (int64_t begin = 0; begin < x.elements();) {
    const int64_t left = x.elements() - begin;
    const int64_t share = std::min(left, fit) / size / kShareElements * kShareElements;
    const int64_t count = share > 0 ? share * size : left;
    const Tensor piece{static_cast<std::byte*>(x.data) + begin * ElementBytes(x.type), x.type, 1,
                       count};
    const absl::Status status =
        share > 0 ? SumByShares(piece, share, stream) : SumGathered(piece, stream);
    if (!status.ok()) return status;
    begin += count;
  }
  return absl::OkStatus();
}

absl::Status NcclCollectives::SumByShares(Tensor x, int64_t share, cudaStream_t stream) {
  // Rank r sums share r and hands it round.
  absl::Status status = group_.EnqueueNccl([&](ncclComm_t communicator) {
    return group_.nccl().library().AlltoAll(x.data, scratch_, share, TypeOf(x), communicator,
                                            stream);
  });
  if (!status.ok()) return status;
  void* const own = static_cast<std::byte*>(x.data) + group_.rank() * share * ElementBytes(x.type);
  status.Update(SumScratch(x.type, share, own, stream));
  if (!status.ok()) return status;
  return Gather({own, x.type, 1, share}, x.data, stream);
}

absl::Status NcclCollectives::SumGathered(Tensor x, cudaStream_t stream) {
  if (absl::Status status = Gather(x, scratch_, stream); !status.ok()) return status;
  return SumScratch(x.type, x.elements(), x.data, stream);
}

absl::Status NcclCollectives::SumScratch(ElementType type, int64_t elements, void* out,
                                         cudaStream_t stream) {
  return group_.Checked(
      CudaStatus(LaunchRankOrderSum(scratch_, group_.size(), type, elements, out, stream),
                 "cannot launch a sum"));
}

}  // namespace weir
