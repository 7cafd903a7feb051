#include "worker/engine/rank.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/host_boot.h"
#include "worker/engine/follower_engine.h"
#include "worker/engine/leader_engine.h"
#include "worker/engine/session_capacity.h"
#include "worker/model/open_model.h"

namespace weir {
namespace {

absl::Status UnknownDevice(const std::string& device) {
  return absl::InvalidArgumentError(
      absl::StrCat("device is '", device, "'; there are 'cpu' and 'cuda'"));
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(const RankOptions& options) {
  if (options.device == "cpu") return CreateCpuBackend({.threads = options.threads});
  if (options.device == "cuda") {
    return CreateCudaBackend({.gpu = options.gpu, .exact_scores = options.exact_scores});
  }
  return UnknownDevice(options.device);
}

}  // namespace

absl::Status Rank::CheckDevice(const std::string& device, int gpu) {
  if (device == "cpu") return absl::OkStatus();
  if (device == "cuda") return CheckCudaGpu(gpu);
  return UnknownDevice(device);
}

absl::StatusOr<std::unique_ptr<Rank>> Rank::Load(const RankOptions& options) {
  if (options.engine.max_runs < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_runs is ", options.engine.max_runs, "; it must be at least 1"));
  }
  std::unique_ptr<Rank> rank(new Rank(options));
  absl::StatusOr<std::unique_ptr<GgufFile>> file = OpenModel({.path = options.model_path,
                                                              .load_format = options.load_format,
                                                              .layers = options.dummy_layers});
  if (!file.ok()) return file.status();
  rank->file_ = *std::move(file);
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromGguf(*rank->file_);
  if (!tokenizer.ok()) return tokenizer.status();
  rank->tokenizer_ = *std::move(tokenizer);
  absl::StatusOr<std::unique_ptr<Backend>> backend = CreateBackend(options);
  if (!backend.ok()) return backend.status();
  rank->backend_ = *std::move(backend);

  absl::StatusOr<std::unique_ptr<LlamaModel>> model =
      LlamaModel::Load(*rank->file_, options.rank, options.tensor_parallel, rank->backend_.get());
  if (!model.ok()) return model.status();
  rank->model_ = *std::move(model);
  if (rank->tokenizer_->vocabulary_size() != rank->model_->config().vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.model_path, ": the tokenizer has ", rank->tokenizer_->vocabulary_size(),
        " tokens, tensor token_embd.weight has ", rank->model_->config().vocabulary));
  }
  absl::StatusOr<std::unique_ptr<StepExecutor>> executor =
      StepExecutor::Create(rank->model_.get(), options.engine.max_sessions, options.engine.cascade,
                           options.engine.check_ranks_agree);
  if (!executor.ok()) return executor.status();
  rank->executor_ = *std::move(executor);
  return rank;
}

absl::StatusOr<RankMemory> Rank::MemoryForSessions() const {
  const absl::StatusOr<int64_t> free = backend_->FreeBytes();
  if (!free.ok()) return free.status();
  // Ranks on CPUs share their host's memory; on GPUs each has one to itself.
  std::string place =
      options_.device == "cpu" ? HostBootId() : absl::StrCat("GPU of rank ", options_.rank);
  return RankMemory{std::move(place), *free, executor_->bytes_per_session()};
}

absl::StatusOr<std::unique_ptr<Engine>> Rank::StartEngine(Communicator* communicator) {
  if (communicator->rank() != options_.rank || communicator->size() != options_.tensor_parallel) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the communicator is of rank ", communicator->rank(), " of ", communicator->size(),
        "; the weights are of rank ", options_.rank, " of ", options_.tensor_parallel));
  }
  std::unique_ptr<Engine> engine;
  if (options_.rank == 0) {
    engine = std::make_unique<LeaderEngine>(options_.engine, communicator, executor_.get(),
                                            tokenizer_.get());
  } else {
    engine = std::make_unique<FollowerEngine>(options_.engine, communicator, executor_.get());
  }
  return engine;
}

}  // namespace weir
