#include "tests/worker/engine/executor_group.h"

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/missing_gpu.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/comm/rank_threads.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/comm/in_memory_rendezvous.h"
#include "worker/comm/in_process_group.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/single_communicator.h"
#include "worker/model/gguf.h"

namespace weir {

std::string WriteSharedModel(const std::string& name) {
  return WriteModel(MakeRandomModel({.layers = kSharedModelLayers,
                                     .hidden = 128,
                                     .heads = 12,
                                     .kv_heads = 6,
                                     .head_dim = 64,
                                     .ffn = 192,
                                     .vocabulary = kLeastVocabulary},
                                    1),
                    name);
}

namespace {

void CheckOk(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  CheckOk(value.status());
  return *std::move(value);
}

}  // namespace

ExecutorRank::ExecutorRank(const ExecutorGroupOptions& options, int rank) {
  backend_ = OrDie(options.device == "cuda" ? CreateCudaBackend({.gpu = rank})
                                            : CreateCpuBackend({.threads = 1}));
  const std::unique_ptr<GgufFile> file = OrDie(GgufFile::Open(options.model_path));
  model_ = OrDie(LlamaModel::Load(*file, rank, options.ranks, backend_.get()));
  executor_ = OrDie(StepExecutor::Create(model_.get(), options.sessions, options.cascade,
                                         /*check_ranks_agree=*/true));
}

ExecutorRank::~ExecutorRank() { Leave(); }

void ExecutorRank::Join(std::unique_ptr<Communicator> communicator) {
  communicator_ = std::move(communicator);
  CheckOk(executor_->JoinGroup(communicator_.get()));
}

void ExecutorRank::Leave() {
  executor_->LeaveGroup();
  communicator_.reset();
}

absl::StatusOr<StepResult> ExecutorRank::Execute(const StepPlan& plan) {
  if (absl::Status valid = executor_->Validate(plan); !valid.ok()) return valid;
  return executor_->Execute(plan);
}

absl::StatusOr<StepResult> ExecutorRank::ExecuteLeaders(StepPlan& plan) {
  std::string bytes = SerializeStepPlan(plan);
  if (absl::Status status = communicator_->Broadcast(bytes); !status.ok()) return status;
  absl::StatusOr<StepPlan> sent = ParseStepPlan(bytes);
  if (!sent.ok()) return sent.status();
  plan = *std::move(sent);
  return Execute(plan);
}

std::string GroupCaseName(const testing::TestParamInfo<GroupCase>& info) {
  return absl::StrCat(info.param.device, info.param.ranks);
}

void GroupTest::SetUp() {
  const auto& [device, ranks] = GetParam();
  if (device == "cuda" && IsMissingGpu(CheckCudaGpu(ranks - 1))) {
    GTEST_SKIP() << "needs " << ranks << " GPUs";
  }
}

void RunExecutorGroup(const ExecutorGroupOptions& options,
                      const std::function<void(ExecutorRank&)>& body) {
  std::vector<std::unique_ptr<Communicator>> host_communicators;
  if (options.device == "cpu") host_communicators = MakeInProcessGroup(options.ranks);
  InMemoryRendezvous rendezvous;
  std::barrier<> over(options.ranks);
  RunRanks(options.ranks, [&](int number) {
    ExecutorRank rank(options, number);
    std::unique_ptr<Communicator> communicator;
    if (options.ranks == 1) {
      communicator = MakeSingleCommunicator();
    } else if (options.device == "cpu") {
      communicator = std::move(host_communicators[number]);
    } else {
      communicator =
          OrDie(ConnectNcclCommunicator({.group = {.rank = number, .size = options.ranks},
                                         .gpu = number,
                                         .stream = rank.backend().stream()},
                                        rendezvous));
    }
    if (options.wrap) communicator = options.wrap(std::move(communicator), rank.backend());
    rank.Join(std::move(communicator));
    body(rank);
    over.arrive_and_wait();
    rank.Leave();
  });
}

}  // namespace weir
