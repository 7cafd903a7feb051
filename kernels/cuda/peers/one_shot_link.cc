#include "kernels/cuda/peers/one_shot_link.h"

#include <atomic>
#include <cassert>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/cuda/common/cuda_status.h"

namespace weir {
namespace {

// Behind the inbox: the numbers of calls, the flag of having given up, what a trial sums.
constexpr int64_t kCallsBytes = kOneShotMostBlocks * sizeof(unsigned long long);
constexpr int64_t kFlagBytes = 64;
// More than a block's worth, and a group that is not whole.
constexpr int64_t kTrialElements = 4097;

absl::Status Launched(cudaError_t error) { return CudaStatus(error, "cannot launch a collective"); }

absl::Status Done(cudaError_t error) { return CudaStatus(error, "cannot prepare collectives"); }

// Whether the stream becomes idle within `patience`.
bool BecomesIdle(cudaStream_t stream, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (cudaStreamQuery(stream) == cudaErrorNotReady) {
    (void)cudaGetLastError();
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Microseconds(100));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OneShotLink>> OneShotLink::Create(int device, int rank, int ranks) {
  std::unique_ptr<OneShotLink> link(new OneShotLink);
  link->ranks_.rank = rank;
  link->ranks_.ranks = ranks;
  const int64_t inbox_bytes = OneShotInboxBytes(ranks);
  absl::StatusOr<std::unique_ptr<PeerMemory>> memory = PeerMemory::Create(
      device, inbox_bytes + kCallsBytes + kFlagBytes + kTrialElements * int64_t{sizeof(float)});
  if (!memory.ok()) return memory.status();
  link->memory_ = *std::move(memory);
  std::byte* const data = link->memory_->data();
  link->ranks_.calls = reinterpret_cast<unsigned long long*>(data + inbox_bytes);
  link->ranks_.gave_up = reinterpret_cast<unsigned int*>(data + inbox_bytes + kCallsBytes);
  link->trial_ = {data + inbox_bytes + kCallsBytes + kFlagBytes, ElementType::kFloat32, 1,
                  kTrialElements};
  // No rank sends before it has this one's card.
  absl::Status status =
      Done(cudaMemsetAsync(data, 0, inbox_bytes + kCallsBytes + kFlagBytes, cudaStreamPerThread));
  status.Update(Done(cudaStreamSynchronize(cudaStreamPerThread)));
  status.Update(Done(cudaMallocHost(&link->aborted_, sizeof(*link->aborted_))));
  if (!status.ok()) return status;
  *link->aborted_ = 0;
  link->ranks_.aborted = link->aborted_;
  return link;
}

OneShotLink::~OneShotLink() {
  if (!abandoned_ && aborted_ != nullptr) (void)cudaFreeHost(aborted_);
}

absl::Status OneShotLink::Connect(absl::Span<const std::string> cards) {
  assert(static_cast<int>(cards.size()) == ranks_.ranks);
  if (ranks_.ranks > kOneShotMostRanks) {
    return absl::FailedPreconditionError(absl::StrCat("a group of ", ranks_.ranks, " ranks; only ",
                                                      kOneShotMostRanks,
                                                      " can write to each other's memory"));
  }
  for (int peer = 0; peer < ranks_.ranks; ++peer) {
    if (peer == ranks_.rank) {
      ranks_.inboxes[peer] = memory_->data();
      continue;
    }
    const absl::StatusOr<std::byte*> inbox = memory_->Open(cards[peer]);
    if (!inbox.ok()) return inbox.status();
    ranks_.inboxes[peer] = *inbox;
  }
  // All ranks count from the same number. It is random, so that what a rank of an earlier group may
  // still send to this memory is not taken for a packet of this one.
  const absl::StatusOr<uint64_t> first_call = NonceOfCard(cards[0]);
  if (!first_call.ok()) return first_call.status();
  const std::vector<unsigned long long> calls(kOneShotMostBlocks, *first_call);
  absl::Status status = Done(cudaMemcpyAsync(ranks_.calls, calls.data(), kCallsBytes,
                                             cudaMemcpyHostToDevice, cudaStreamPerThread));
  status.Update(Done(cudaStreamSynchronize(cudaStreamPerThread)));
  return status;
}

absl::Status OneShotLink::Try(cudaStream_t stream, absl::Duration patience) {
  const auto value = [](int rank, int64_t i) { return static_cast<float>(rank + 1 + i % 7); };
  std::vector<float> values(kTrialElements);
  for (int64_t i = 0; i < kTrialElements; ++i) values[i] = value(ranks_.rank, i);
  const int64_t bytes = kTrialElements * int64_t{sizeof(float)};
  absl::Status status =
      Done(cudaMemcpyAsync(trial_.data, values.data(), bytes, cudaMemcpyHostToDevice, stream));
  if (status.ok()) status.Update(AllReduceSum(trial_, stream));
  if (!status.ok()) return status;
  if (!BecomesIdle(stream, patience)) {
    Abort();
    if (!BecomesIdle(stream, patience)) Abandon();
    return absl::FailedPreconditionError(
        absl::StrCat("what other GPUs write to this one's memory has not arrived after ",
                     absl::FormatDuration(patience)));
  }
  status.Update(
      Done(cudaMemcpyAsync(values.data(), trial_.data, bytes, cudaMemcpyDeviceToHost, stream)));
  status.Update(Done(cudaStreamSynchronize(stream)));
  if (!status.ok()) return status;
  for (int64_t i = 0; i < kTrialElements; ++i) {
    float sum = 0;
    for (int rank = 0; rank < ranks_.ranks; ++rank) sum += value(rank, i);
    if (values[i] == sum) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("a trial sum of the GPUs is ", values[i], " instead of ", sum));
  }
  return absl::OkStatus();
}

absl::Status OneShotLink::AllReduceSum(Tensor x, cudaStream_t stream) {
  return Launched(LaunchOneShotSum(ranks_, x.data, x.type, x.elements(), stream));
}

absl::Status OneShotLink::AllGather(Tensor x, Tensor out, cudaStream_t stream) {
  assert(out.type == x.type && out.rows == ranks_.ranks * x.rows && out.cols == x.cols);
  return Launched(LaunchOneShotGather(ranks_, x.data, x.type, x.elements(), out.data, stream));
}

absl::Status OneShotLink::AddNorm(const OneShotAddNorm& work, cudaStream_t stream) {
  return Launched(LaunchOneShotAddNorm(ranks_, work, stream));
}

void OneShotLink::Abort() { std::atomic_ref<unsigned int>(*aborted_).store(1); }

void OneShotLink::Abandon() {
  abandoned_ = true;
  memory_->Abandon();
}

}  // namespace weir
