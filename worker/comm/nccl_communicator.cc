#include "worker/comm/nccl_communicator.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kernels/cuda/common/bfloat16_tensor.h"
#include "kernels/cuda/peers/one_shot_add_norm.h"
#include "kernels/cuda/peers/one_shot_link.h"
#include "kernels/cuda/peers/peer_memory.h"
#include "kernels/cuda/peers/two_shot_link.h"
#include "worker/comm/exchange.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/nccl_collectives.h"
#include "worker/comm/nccl_group.h"
#include "worker/comm/nccl_library.h"

namespace weir {
namespace {

// How long a trial of writing to each other's memory may take, and how long it may take to end:
// well within what the others, who have succeeded, wait for the outcome.
constexpr absl::Duration kTrialPatience = absl::Seconds(3);

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

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(const NcclLibrary& library, const NcclOptions& options,
                   std::unique_ptr<Communicator> host)
      : log_(options.log), group_(library, options, std::move(host)), large_(group_) {}

  ~NcclCommunicator() override {
    if (group_.End()) return;
    large_.Abandon();
    if (shared_rows_ != nullptr) shared_rows_->Abandon();
  }

  // What makes an object that has been constructed complete.
  absl::Status Connect(const NcclOptions& options);

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }

  absl::Status AllReduceSum(Tensor x) override;
  absl::Status StartSum(Tensor x) override;
  absl::Status FinishSum() override;
  bool overlaps() const override { return group_.size() > 1; }
  bool FusesNorm(int64_t rows, int64_t cols) const override;
  absl::Status AllReduceAddRmsNorm(Tensor residual, Tensor delta, Tensor weight, float epsilon,
                                   Tensor normed) override;
  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t rows, int64_t cols) override;
  absl::Status SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) override;
  absl::Status AllGather(Tensor x, Tensor out) override;
  absl::Status Broadcast(std::string& bytes) override;
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override;

  absl::Status Poll() override { return group_.Poll(); }
  void Abort() override { group_.Abort(); }

 private:
  absl::Status ConnectNccl(absl::Duration join_timeout);
  absl::Status ConnectLink(const std::vector<std::string>& cards, const NcclOptions& options);

  // Whether `x` is small enough for the link, if there is one.
  bool FitsLink(const Tensor& x) {
    return group_.link() != nullptr && OneShotLink::Takes(x.elements() * ElementBytes(x.type));
  }

  void Log(const std::string& sentence) const {
    if (log_) log_(sentence);
  }

  const std::function<void(const std::string& sentence)> log_;
  NcclGroup group_;
  NcclCollectives large_;
  std::unique_ptr<TwoShotLink> shared_rows_;  // null if none are shared
};

absl::Status NcclCommunicator::Connect(const NcclOptions& options) {
  absl::Status status = group_.BeginCall();
  if (!status.ok()) return status;
  absl::StatusOr<std::unique_ptr<OneShotLink>> link =
      OneShotLink::Create(group_.gpu(), rank(), size());
  if (!link.ok()) return link.status();
  group_.SetLink(*std::move(link));
  const absl::StatusOr<std::vector<std::string>> cards = Exchange(*this, group_.link()->card());
  if (!cards.ok()) return cards.status();
  status.Update(CheckGpus(*cards));
  if (status.ok()) status.Update(large_.Allocate());
  if (status.ok()) status.Update(ConnectNccl(options.group.join_timeout));
  if (status.ok()) status.Update(ConnectLink(*cards, options));
  if (status.ok()) status.Update(large_.WarmUp());
  return status;
}

absl::Status NcclCommunicator::ConnectNccl(absl::Duration join_timeout) {
  std::string id;
  if (rank() == 0) {
    absl::StatusOr<std::string> made = group_.nccl().NewId();
    if (!made.ok()) return made.status();
    id = *std::move(made);
  }
  if (absl::Status status = Broadcast(id); !status.ok()) return status;
  if (absl::Status status = group_.nccl().Begin(id); !status.ok()) return status;
  return group_.WaitForNccl(join_timeout);
}

absl::Status NcclCommunicator::ConnectLink(const std::vector<std::string>& cards,
                                           const NcclOptions& options) {
  if (!options.one_shot) {
    group_.SetLink(nullptr);
    return absl::OkStatus();
  }
  // Either all ranks have it or none: they tell each other what became of each stage.
  for (const bool last : {false, true}) {
    const absl::Status works =
        last ? group_.link()->Try(group_.stream(), kTrialPatience) : group_.link()->Connect(cards);
    const absl::StatusOr<int> refuses = FirstToRefuse(*this, works.ok());
    if (!refuses.ok()) return refuses.status();
    if (*refuses < 0) continue;
    group_.SetLink(nullptr);
    Log(absl::StrCat("small sums go through NCCL, which takes longer: ",
                     works.ok()
                         ? absl::StrCat("rank ", *refuses, " cannot write to other GPUs' memory")
                         : std::string(works.message())));
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status NcclCommunicator::AllReduceSum(Tensor x) {
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  if (x.elements() == 0) return absl::OkStatus();
  return FitsLink(x) ? group_.Checked(group_.link()->AllReduceSum(x, group_.stream()))
                     : large_.Sum(x);
}

absl::Status NcclCommunicator::StartSum(Tensor x) {
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  assert(x.elements() > 0);
  return large_.StartSum(x);
}

absl::Status NcclCommunicator::FinishSum() {
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  return large_.FinishSum();
}

bool NcclCommunicator::FusesNorm(int64_t rows, int64_t cols) const {
  return size() > 1 && group_.link() != nullptr &&
         OneShotAddNorm{.rows = static_cast<int>(rows), .width = static_cast<int>(cols)}.Fits();
}

absl::Status NcclCommunicator::AllReduceAddRmsNorm(Tensor residual, Tensor delta, Tensor weight,
                                                   float epsilon, Tensor normed) {
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  const OneShotAddNorm work = {.rows = static_cast<int>(delta.rows),
                               .width = static_cast<int>(delta.cols),
                               .delta = BFloat16s(delta),
                               .residual = residual.f32(),
                               .weight = weight.f32(),
                               .epsilon = epsilon,
                               .normed = BFloat16s(normed)};
  return group_.Checked(group_.link()->AddNorm(work, group_.stream()));
}

absl::StatusOr<std::optional<SharedRows>> NcclCommunicator::ShareRows(int64_t rows, int64_t cols) {
  assert(shared_rows_ == nullptr);
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  if (group_.link() == nullptr || size() == 1) return std::nullopt;
  absl::StatusOr<std::unique_ptr<TwoShotLink>> made =
      TwoShotLink::Create(*group_.link(), group_.gpu(), rows, cols);
  // Either all ranks share rows or none does: they tell each other what became of each stage.
  absl::StatusOr<int> refuses = FirstToRefuse(*this, made.ok());
  if (!refuses.ok()) return refuses.status();
  absl::Status works = made.status();
  if (*refuses < 0) {
    const absl::StatusOr<std::vector<std::string>> cards = Exchange(*this, (*made)->card());
    if (!cards.ok()) return cards.status();
    works = (*made)->Connect(*cards);
    refuses = FirstToRefuse(*this, works.ok());
    if (!refuses.ok()) return refuses.status();
  }
  if (*refuses >= 0) {
    Log(absl::StrCat("sums of a chunk go through NCCL, which takes longer: ",
                     works.ok() ? absl::StrCat("rank ", *refuses, " cannot share memory for them")
                                : std::string(works.message())));
    return std::nullopt;
  }
  shared_rows_ = *std::move(made);
  return SharedRows{.deltas = shared_rows_->deltas(), .normed = shared_rows_->normed()};
}

absl::Status NcclCommunicator::SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) {
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  // A rank that was stopped for long may find all others ready, from before they gave it up, and
  // their memory already with another group: it must learn that it was given up before it writes.
  if (absl::Status status = group_.Poll(); !status.ok()) return status;
  return group_.Checked(shared_rows_->AddNorm(residual, weight, epsilon, group_.stream()));
}

absl::Status NcclCommunicator::AllGather(Tensor x, Tensor out) {
  assert(out.type == x.type && out.rows == size() * x.rows && out.cols == x.cols);
  if (absl::Status status = group_.BeginCall(); !status.ok()) return status;
  if (x.elements() == 0) return absl::OkStatus();
  return FitsLink(x) ? group_.Checked(group_.link()->AllGather(x, out, group_.stream()))
                     : large_.Gather(x, out.data);
}

absl::Status NcclCommunicator::Broadcast(std::string& bytes) {
  if (absl::Status status = group_.status(); !status.ok()) return status;
  absl::Status status = group_.Checked(group_.host().Broadcast(bytes));
  group_.RestartPatience();
  return status;
}

absl::StatusOr<std::vector<std::string>> NcclCommunicator::Gather(const std::string& bytes) {
  if (absl::Status status = group_.status(); !status.ok()) return status;
  absl::StatusOr<std::vector<std::string>> gathered = group_.host().Gather(bytes);
  group_.RestartPatience();
  if (!gathered.ok()) return group_.Checked(gathered.status());
  return gathered;
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
  const absl::StatusOr<const NcclLibrary*> library = LoadNccl();
  if (!library.ok()) return library.status();
  absl::StatusOr<std::unique_ptr<Communicator>> host =
      ConnectGlooCommunicator(options.group, rendezvous);
  if (!host.ok()) return host.status();
  auto communicator = std::make_unique<NcclCommunicator>(**library, options, *std::move(host));
  if (absl::Status status = communicator->Connect(options); !status.ok()) return status;
  return communicator;
}

}  // namespace weir
