#include "worker/comm/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "kernels/cuda/one_shot_link.h"
#include "kernels/cuda/peer_memory.h"
#include "kernels/cuda/rank_order_sum.h"
#include "worker/comm/exchange.h"
#include "worker/comm/gloo_communicator.h"

namespace weir {
namespace {

// How often a wait looks whether the group is well.
constexpr auto kLookInterval = std::chrono::milliseconds(1);

// Sums of more than two ranks go through memory of this size, piece by piece. Behind it are a few
// bytes for what is summed when ranks connect.
constexpr int64_t kScratchBytes = 16 << 20;
constexpr int64_t kWarmUpBytes = 64 << 10;
// Shares of a sum are whole multiples of this, so that they begin where memory is fast.
constexpr int64_t kShareElements = 64;
// How long a trial of writing to each other's memory may take, and how long it may take to end:
// well within what the others, who have succeeded, wait for the outcome.
constexpr absl::Duration kTrialPatience = absl::Seconds(3);

// Before NCCL is first used. No multicast over NVLink, which needs more of a host than peer access.
// Connections are made when the group is, not in the midst of a capture, and a captured tensor is
// not mapped by other ranks.
void SetUpNccl() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
    setenv("NCCL_RUNTIME_CONNECT", "0", /*overwrite=*/0);
    setenv("NCCL_GRAPH_REGISTER", "0", /*overwrite=*/0);
  });
}

ncclDataType_t TypeOf(const Tensor& x) {
  return x.type == ElementType::kBFloat16 ? ncclBfloat16 : ncclFloat32;
}

absl::Status Cuda(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();  // It is told here.
  const std::string message = absl::StrCat(what, ": ", cudaGetErrorString(error));
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(message)
                                            : absl::InternalError(message);
}

// No two ranks may use one GPU.
absl::Status CheckGpus(const std::vector<std::string>& cards) {
  std::vector<std::string> gpus;
  for (const std::string& card : cards) {
    absl::StatusOr<std::string> gpu = GpuOfCard(card);
    if (!gpu.ok()) return gpu.status();
    const auto same = std::find(gpus.begin(), gpus.end(), *gpu);
    if (same != gpus.end()) {
      return absl::InvalidArgumentError(absl::StrCat("ranks ", same - gpus.begin(), " and ",
                                                     gpus.size(), " both use ", *gpu,
                                                     "; each needs a GPU of its own"));
    }
    gpus.push_back(*std::move(gpu));
  }
  return absl::OkStatus();
}

// An NCCL communicator that does not block: calls return before what they enqueue is in the stream.
// Thread-safe.
class NcclHandle {
 public:
  // Calls call(ncclComm_t*), which begins to make the communicator.
  template <typename Call>
  ncclResult_t Make(Call call) {
    absl::MutexLock lock(&mutex_);
    return call(&communicator_);
  }

  // Calls call(ncclComm_t), unless there is none any more.
  template <typename Call>
  ncclResult_t Use(Call call) {
    absl::MutexLock lock(&mutex_);
    return communicator_ == nullptr ? ncclSuccess : call(communicator_);
  }

  // Of the last call: ncclInProgress, how it ended, or what went wrong since.
  ncclResult_t state() {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked =
        Use([&](ncclComm_t communicator) { return ncclCommGetAsyncError(communicator, &state); });
    return asked == ncclSuccess ? state : asked;
  }

  // Makes its kernels end and frees it, on a thread of its own: this lasts until no CUDA graph that
  // captured them exists any more.
  void Abort() {
    absl::MutexLock lock(&mutex_);
    if (communicator_ == nullptr) return;
    aborting_ = std::thread([communicator = std::exchange(communicator_, nullptr), freed = freed_] {
      (void)ncclCommAbort(communicator);
      freed->Notify();
    });
  }

  // After Abort: waits for it, but not longer than `patience`.
  void Join(absl::Duration patience) {
    if (!aborting_.joinable()) return;
    if (freed_->WaitForNotificationWithTimeout(patience)) {
      aborting_.join();
    } else {
      aborting_.detach();
    }
  }

 private:
  absl::Mutex mutex_;
  ncclComm_t communicator_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread aborting_;
  const std::shared_ptr<absl::Notification> freed_ = std::make_shared<absl::Notification>();
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(const NcclOptions& options, std::unique_ptr<Communicator> host)
      : gpu_(options.gpu),
        stream_(static_cast<cudaStream_t>(options.stream)),
        timeout_(options.group.timeout),
        host_(std::move(host)) {}

  ~NcclCommunicator() override {
    Stop();
    (void)cudaSetDevice(gpu_);
    const bool idle = BecomesIdle();
    nccl_.Join(timeout_);
    // A stream that does not end, if that should happen, still uses this memory.
    if (idle && scratch_ != nullptr) (void)cudaFree(scratch_);
    if (!idle && link_ != nullptr) link_->Abandon();
  }

  // What makes an object that has been constructed complete.
  absl::Status Connect(const NcclOptions& options);

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  absl::Status AllReduceSum(Tensor x) override;
  absl::Status AllGather(Tensor x, Tensor out) override;

  absl::Status Broadcast(std::string& bytes) override {
    if (absl::Status status = this->status(); !status.ok()) return status;
    absl::Status status = Checked(host_->Broadcast(bytes));
    last_call_ = std::chrono::steady_clock::now();
    return status;
  }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    if (absl::Status status = this->status(); !status.ok()) return status;
    absl::StatusOr<std::vector<std::string>> gathered = host_->Gather(bytes);
    last_call_ = std::chrono::steady_clock::now();
    if (!gathered.ok()) return Checked(gathered.status());
    return gathered;
  }

  absl::Status Poll() override {
    if (absl::Status status = this->status(); !status.ok()) return status;
    if (absl::Status status = Checked(host_->Poll()); !status.ok()) return status;
    if (absl::Status status = Checked(NcclStatus(nccl_.state())); !status.ok()) return status;
    return CheckProgress();
  }

  void Abort() override { Checked(absl::CancelledError("the group was aborted")).IgnoreError(); }

 private:
  // ---- How it ends ----

  absl::Status status() {
    absl::MutexLock lock(&mutex_);
    return status_;
  }
  // If `status` is an error, the group is over, because of it or of an earlier one, which is
  // returned.
  absl::Status Checked(const absl::Status& status) {
    if (status.ok()) return status;
    {
      absl::MutexLock lock(&mutex_);
      status_.Update(status);
    }
    Stop();
    return this->status();
  }
  absl::Status NcclStatus(ncclResult_t result) const;
  // Makes what waits for other ranks end, here and there. The others are told first: what the
  // stream sends from then on means nothing. Any thread.
  void Stop() {
    host_->Abort();
    if (link_ != nullptr) link_->Abort();
    nccl_.Abort();
  }

  // ---- Waiting ----

  // The group is over if the stream has had long enough to end since the last call.
  absl::Status CheckProgress();
  // Returns when done() is true. Ends the group when done() is an error, the group is not well or
  // `limit` has passed.
  template <typename Done>
  absl::Status WaitUntil(absl::Duration limit, Done done);
  // Until NCCL has done what it was called for last.
  absl::Status WaitForNccl(absl::Duration limit);
  // Whether the stream has run all that was enqueued.
  absl::StatusOr<bool> IsIdle() const;
  // Whether it has within timeout_, whatever becomes of the group.
  bool BecomesIdle() const;
  // The rank that is silent, as far as this one knows.
  absl::Status Silent(absl::Duration time) const {
    return absl::UnavailableError(
        absl::StrCat(size() == 2 ? absl::StrCat("rank ", 1 - rank()) : "a rank", " of ", size(),
                     " was silent for ", absl::FormatDuration(time)));
  }

  // ---- Connecting ----

  absl::Status ConnectNccl(absl::Duration join_timeout);
  absl::Status ConnectLink(const std::vector<std::string>& cards, const NcclOptions& options);
  absl::Status WarmUp();

  // ---- Collectives ----

  absl::Status BeginCall() {
    if (absl::Status status = this->status(); !status.ok()) return status;
    last_call_ = std::chrono::steady_clock::now();
    return Checked(Cuda(cudaSetDevice(gpu_), absl::StrCat("cannot use GPU ", gpu_)));
  }
  bool FitsLink(const Tensor& x) const {
    return link_ != nullptr && OneShotLink::Takes(x.elements() * ElementBytes(x.type));
  }
  // Enqueues what call(ncclComm_t) says, and returns when it is in the stream.
  template <typename Call>
  absl::Status Enqueue(Call call);
  absl::Status NcclGather(Tensor x, void* out);
  absl::Status NcclSum(Tensor x);
  // Of size() shares of `share` elements.
  absl::Status SumByShares(Tensor x, int64_t share);
  absl::Status SumGathered(Tensor x);
  // out = the sum of size() parts of `elements` in the scratch memory.
  absl::Status SumScratch(ElementType type, int64_t elements, void* out);

  const int gpu_;
  const cudaStream_t stream_;
  const absl::Duration timeout_;
  const std::unique_ptr<Communicator> host_;
  std::unique_ptr<OneShotLink> link_;  // null: GPUs do not reach each other's memory
  NcclHandle nccl_;
  std::chrono::steady_clock::time_point last_call_ = std::chrono::steady_clock::now();
  void* scratch_ = nullptr;  // [kScratchBytes + kWarmUpBytes]

  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // of the first failure
};

absl::Status NcclCommunicator::NcclStatus(ncclResult_t result) const {
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  const std::string reason =
      absl::StrCat("NCCL on rank ", rank(), " of ", size(), ": ", ncclGetErrorString(result), " (",
                   ncclGetLastError(nullptr), ")");
  const bool misused = result == ncclInvalidArgument || result == ncclInvalidUsage;
  // Most of what goes wrong otherwise is another rank that has gone.
  return misused ? absl::InvalidArgumentError(reason) : absl::UnavailableError(reason);
}

absl::StatusOr<bool> NcclCommunicator::IsIdle() const {
  const cudaError_t state = cudaStreamQuery(stream_);
  if (state == cudaSuccess) return true;
  if (state != cudaErrorNotReady) return Cuda(state, absl::StrCat("GPU ", gpu_, " failed"));
  (void)cudaGetLastError();  // It is no error.
  return false;
}

absl::Status NcclCommunicator::CheckProgress() {
  if (absl::FromChrono(std::chrono::steady_clock::now() - last_call_) <= timeout_) {
    return absl::OkStatus();
  }
  const absl::StatusOr<bool> idle = IsIdle();
  if (!idle.ok()) return Checked(idle.status());
  return *idle ? absl::OkStatus() : Checked(Silent(timeout_));
}

template <typename Done>
absl::Status NcclCommunicator::WaitUntil(absl::Duration limit, Done done) {
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

absl::Status NcclCommunicator::WaitForNccl(absl::Duration limit) {
  return WaitUntil(limit, [&]() -> absl::StatusOr<bool> {
    const ncclResult_t state = nccl_.state();
    if (absl::Status status = NcclStatus(state); !status.ok()) return status;
    return state == ncclSuccess;
  });
}

bool NcclCommunicator::BecomesIdle() const {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout_);
  while (true) {
    const absl::StatusOr<bool> idle = IsIdle();
    if (!idle.ok()) return false;
    if (*idle) return true;
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kLookInterval);
  }
}

absl::Status NcclCommunicator::Connect(const NcclOptions& options) {
  absl::Status status = BeginCall();
  if (!status.ok()) return status;
  absl::StatusOr<std::unique_ptr<OneShotLink>> link = OneShotLink::Create(gpu_, rank(), size());
  if (!link.ok()) return link.status();
  link_ = *std::move(link);
  const absl::StatusOr<std::vector<std::string>> cards = Exchange(*this, link_->card());
  if (!cards.ok()) return cards.status();
  status.Update(CheckGpus(*cards));
  if (status.ok()) {
    status.Update(Cuda(cudaMalloc(&scratch_, kScratchBytes + kWarmUpBytes), "memory for sums"));
  }
  if (status.ok()) status.Update(ConnectNccl(options.group.join_timeout));
  if (status.ok()) status.Update(ConnectLink(*cards, options));
  if (status.ok()) status.Update(WarmUp());
  return status;
}

absl::Status NcclCommunicator::ConnectNccl(absl::Duration join_timeout) {
  ncclUniqueId id = {};
  if (rank() == 0) {
    if (absl::Status status = NcclStatus(ncclGetUniqueId(&id)); !status.ok()) return status;
  }
  std::string bytes(id.internal, sizeof(id.internal));
  if (absl::Status status = Broadcast(bytes); !status.ok()) return status;
  assert(bytes.size() == sizeof(id.internal));
  std::memcpy(id.internal, bytes.data(), sizeof(id.internal));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t begun = nccl_.Make([&](ncclComm_t* communicator) {
    return ncclCommInitRankConfig(communicator, size(), id, rank(), &config);
  });
  if (absl::Status status = NcclStatus(begun); !status.ok()) return status;
  return WaitForNccl(join_timeout);
}

absl::Status NcclCommunicator::ConnectLink(const std::vector<std::string>& cards,
                                           const NcclOptions& options) {
  if (!options.one_shot) {
    link_.reset();
    return absl::OkStatus();
  }
  // Either all ranks have it or none: they tell each other what became of each stage.
  for (const bool last : {false, true}) {
    const absl::Status works = last ? link_->Try(stream_, kTrialPatience) : link_->Connect(cards);
    const absl::StatusOr<int> refuses = FirstToRefuse(*this, works.ok());
    if (!refuses.ok()) return refuses.status();
    if (*refuses < 0) continue;
    link_.reset();
    if (options.log) {
      options.log(absl::StrCat(
          "small sums go through NCCL, which takes longer: ",
          works.ok() ? absl::StrCat("rank ", *refuses, " cannot write to other GPUs' memory")
                     : std::string(works.message())));
    }
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status NcclCommunicator::WarmUp() {
  // What is to go wrong shall go wrong here, and what NCCL makes at the first use be made.
  const Tensor x{static_cast<std::byte*>(scratch_) + kScratchBytes, ElementType::kBFloat16, 1,
                 size() * kShareElements + 1};
  assert(x.elements() * ElementBytes(x.type) <= kWarmUpBytes);
  absl::Status status = Cuda(cudaMemsetAsync(x.data, 0, kWarmUpBytes, stream_), "cannot clear");
  if (status.ok()) status.Update(NcclSum(x));
  if (status.ok()) status.Update(NcclGather(x, scratch_));
  if (status.ok()) status.Update(WaitUntil(timeout_, [this] { return IsIdle(); }));
  return status;
}

template <typename Call>
absl::Status NcclCommunicator::Enqueue(Call call) {
  const absl::Status status = Checked(NcclStatus(nccl_.Use(call)));
  return status.ok() ? WaitForNccl(timeout_) : status;
}

absl::Status NcclCommunicator::AllReduceSum(Tensor x) {
  if (absl::Status status = BeginCall(); !status.ok()) return status;
  if (x.elements() == 0) return absl::OkStatus();
  return FitsLink(x) ? Checked(link_->AllReduceSum(x, stream_)) : NcclSum(x);
}

absl::Status NcclCommunicator::AllGather(Tensor x, Tensor out) {
  assert(out.type == x.type && out.rows == size() * x.rows && out.cols == x.cols);
  if (absl::Status status = BeginCall(); !status.ok()) return status;
  if (x.elements() == 0) return absl::OkStatus();
  return FitsLink(x) ? Checked(link_->AllGather(x, out, stream_)) : NcclGather(x, out.data);
}

absl::Status NcclCommunicator::NcclGather(Tensor x, void* out) {
  return Enqueue([&](ncclComm_t communicator) {
    return ncclAllGather(x.data, out, x.elements(), TypeOf(x), communicator, stream_);
  });
}

absl::Status NcclCommunicator::NcclSum(Tensor x) {
  if (size() <= 2) {
    // Two have no order but one, and their sum is rounded once.
    return Enqueue([&](ncclComm_t communicator) {
      return ncclAllReduce(x.data, x.data, x.elements(), TypeOf(x), ncclSum, communicator, stream_);
    });
  }
  const int64_t fit = kScratchBytes / ElementBytes(x.type);
  for (int64_t begin = 0; begin < x.elements();) {
    const int64_t left = x.elements() - begin;
    const int64_t share = std::min(left, fit) / size() / kShareElements * kShareElements;
    const int64_t count = share > 0 ? share * size() : left;
    const Tensor piece{static_cast<std::byte*>(x.data) + begin * ElementBytes(x.type), x.type, 1,
                       count};
    const absl::Status status = share > 0 ? SumByShares(piece, share) : SumGathered(piece);
    if (!status.ok()) return status;
    begin += count;
  }
  return absl::OkStatus();
}

absl::Status NcclCommunicator::SumByShares(Tensor x, int64_t share) {
  // Rank r sums share r and hands it round.
  absl::Status status = Enqueue([&](ncclComm_t communicator) {
    return ncclAlltoAll(x.data, scratch_, share, TypeOf(x), communicator, stream_);
  });
  if (!status.ok()) return status;
  void* const own = static_cast<std::byte*>(x.data) + rank() * share * ElementBytes(x.type);
  status.Update(SumScratch(x.type, share, own));
  if (!status.ok()) return status;
  return NcclGather({own, x.type, 1, share}, x.data);
}

absl::Status NcclCommunicator::SumGathered(Tensor x) {
  if (absl::Status status = NcclGather(x, scratch_); !status.ok()) return status;
  return SumScratch(x.type, x.elements(), x.data);
}

absl::Status NcclCommunicator::SumScratch(ElementType type, int64_t elements, void* out) {
  return Checked(Cuda(LaunchRankOrderSum(scratch_, size(), type, elements, out, stream_),
                      "cannot launch a sum"));
}

absl::Status CheckOptions(const NcclOptions& options) {
  int gpus = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&gpus); error != cudaSuccess) {
    (void)cudaGetLastError();
    return absl::InvalidArgumentError(
        absl::StrCat("this host has no GPU that can be used: ", cudaGetErrorString(error)));
  }
  if (options.gpu < 0 || options.gpu >= gpus) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.group.rank, " is to use GPU ",
                                                   options.gpu, "; there are ", gpus,
                                                   ", counted from 0"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> ConnectNcclCommunicator(const NcclOptions& options,
                                                                      Rendezvous& rendezvous) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  SetUpNccl();
  absl::StatusOr<std::unique_ptr<Communicator>> host =
      ConnectGlooCommunicator(options.group, rendezvous);
  if (!host.ok()) return host.status();
  auto communicator = std::make_unique<NcclCommunicator>(options, *std::move(host));
  if (absl::Status status = communicator->Connect(options); !status.ok()) return status;
  return communicator;
}

}  // namespace weir
