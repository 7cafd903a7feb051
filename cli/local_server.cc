#include "cli/local_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "coordinator/coordinator_server.h"
#include "monitoring/metrics.h"
#include "proto/version.h"
#include "worker/service/worker_server.h"

namespace weir {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(5);

}  // namespace

LocalServer::LocalServer() : metrics_(std::make_unique<Metrics>(kVersion)) {}

LocalServer::~LocalServer() {
  if (coordinator_ != nullptr) coordinator_->Stop(absl::ZeroDuration());
}

absl::StatusOr<std::unique_ptr<LocalServer>> LocalServer::Start(const Options& options) {
  std::unique_ptr<LocalServer> local(new LocalServer());
  CoordinatorOptions coordinator_options;
  coordinator_options.version = kVersion;
  coordinator_options.tensor_parallel = 1;
  absl::StatusOr<std::unique_ptr<CoordinatorServer>> coordinator =
      CoordinatorServer::Start(std::move(coordinator_options), local->metrics_.get());
  if (!coordinator.ok()) return coordinator.status();
  local->coordinator_ = *std::move(coordinator);
  local->address_ = absl::StrCat("127.0.0.1:", local->coordinator_->port());

  WorkerOptions worker_options;
  worker_options.model_path = options.model_path;
  worker_options.threads = options.threads;
  worker_options.device = options.device;
  worker_options.gpu = options.gpu;
  worker_options.exact_scores = options.exact_scores;
  worker_options.max_sessions = 1;
  worker_options.cascade = options.cascade;
  worker_options.coordinator = local->coordinator_->InProcessGroupChannel();
  worker_options.version = kVersion;
  worker_options.preferred_rank = 0;
  absl::StatusOr<std::unique_ptr<WorkerServer>> worker =
      WorkerServer::Start(std::move(worker_options), local->metrics_.get());
  if (!worker.ok()) return worker.status();
  local->worker_ = *std::move(worker);

  auto client = Client::Connect(local->address_);
  while (true) {
    absl::StatusOr<v1::ListModelsResponse> models = client->ListModels();
    if (models.ok() && models->models_size() > 0) return local;
    const absl::Status status = local->worker_->status();
    if (!status.ok()) return status;
    absl::SleepFor(kPoll);
  }
}

}  // namespace weir
