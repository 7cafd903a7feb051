#include "worker/comm/nccl_group.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/common/cuda_status.h"

namespace weir {
namespace {

// How often a wait looks whether the group is well.
constexpr auto kLookInterval = std::chrono::milliseconds(1);

}  // namespace

NcclGroup::NcclGroup(const NcclLibrary& library, const NcclOptions& options,
                     std::unique_ptr<Communicator> host)
    : gpu_(options.gpu),
      stream_(static_cast<cudaStream_t>(options.stream)),
      timeout_(options.group.timeout),
      host_(std::move(host)),
      nccl_(library, host_->rank(), host_->size()) {}

absl::Status NcclGroup::status() {
  absl::MutexLock lock(&mutex_);
  return status_;
}

absl::Status NcclGroup::Checked(const absl::Status& status) {
  if (status.ok()) return status;
  {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }
  Stop();
  return this->status();
}

absl::Status NcclGroup::Poll() {
  if (absl::Status status = this->status(); !status.ok()) return status;
  if (absl::Status status = Checked(host_->Poll()); !status.ok()) return status;
  if (absl::Status status = Checked(nccl_.IsDone().status()); !status.ok()) return status;
  return CheckProgress();
}

void NcclGroup::Stop() {
  host_->Abort();
  if (link_ != nullptr) link_->Abort();
  nccl_.Abort();
}

bool NcclGroup::End() {
  Stop();
  (void)cudaSetDevice(gpu_);
  const bool idle = BecomesIdle();
  nccl_.Join(timeout_);
  if (!idle && link_ != nullptr) link_->Abandon();
  return idle;
}

absl::Status NcclGroup::BeginCall() {
  if (absl::Status status = this->status(); !status.ok()) return status;
  RestartPatience();
  return Checked(CudaStatus(cudaSetDevice(gpu_), absl::StrCat("cannot use GPU ", gpu_)));
}

absl::Status NcclGroup::WaitForNccl(absl::Duration limit) {
  return WaitUntil(limit, [this] { return nccl_.IsDone(); });
}

absl::Status NcclGroup::WaitForStream() {
  return WaitUntil(timeout_, [this] { return IsIdle(); });
}

absl::Status NcclGroup::EnqueueNccl(absl::FunctionRef<ncclResult_t(ncclComm_t communicator)> call) {
  const absl::Status status = Checked(nccl_.Call(call));
  return status.ok() ? WaitForNccl(timeout_) : status;
}

absl::Status NcclGroup::CheckProgress() {
  if (absl::FromChrono(std::chrono::steady_clock::now() - last_call_) <= timeout_) {
    return absl::OkStatus();
  }
  const absl::StatusOr<bool> idle = IsIdle();
  if (!idle.ok()) return Checked(idle.status());
  return *idle ? absl::OkStatus() : Checked(Silent(timeout_));
}

absl::Status NcclGroup::WaitUntil(absl::Duration limit,
                                  absl::FunctionRef<absl::StatusOr<bool>()> done) {
  const auto start = std::chrono::steady_clock::now();
  auto look = start + kLookInterval;
  while (true) {
    const absl::StatusOr<bool> is_done = done();
    if (!is_done.ok()) return Checked(is_done.status());
    // What ended because the group did is no success.
    if (*is_done) return status();
    const auto now = std::chrono::steady_clock::now();
    if (now > look) {
      look = now + kLookInterval;
      if (absl::Status well = Poll(); !well.ok()) return well;
      if (absl::FromChrono(now - start) > limit) return Checked(Silent(limit));
    }
    std::this_thread::yield();
  }
}

absl::StatusOr<bool> NcclGroup::IsIdle() const {
  const cudaError_t state = cudaStreamQuery(stream_);
  if (state == cudaSuccess) return true;
  if (state != cudaErrorNotReady) return CudaStatus(state, absl::StrCat("GPU ", gpu_, " failed"));
  (void)cudaGetLastError();  // It is no error.
  return false;
}

bool NcclGroup::BecomesIdle() const {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout_);
  while (true) {
    const absl::StatusOr<bool> idle = IsIdle();
    if (!idle.ok()) return false;
    if (*idle) return true;
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kLookInterval);
  }
}

absl::Status NcclGroup::Silent(absl::Duration time) const {
  return absl::UnavailableError(
      absl::StrCat(size() == 2 ? absl::StrCat("rank ", 1 - rank()) : "a rank", " of ", size(),
                   " was silent for ", absl::FormatDuration(time)));
}

}  // namespace weir
