#ifndef WEIR_WORKER_SERVICE_MODEL_HOST_H_
#define WEIR_WORKER_SERVICE_MODEL_HOST_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/engine/engine.h"
#include "worker/engine/rank.h"
#include "worker/model/chat_template.h"
#include "worker/service/engine_metrics.h"
#include "worker/service/leader_state.h"
#include "worker/service/rank_host.h"
#include "worker/service/worker_service.h"

namespace weir {

struct ModelHostOptions {
  // What to load; `rank.rank`, `rank.gpu` and `rank.engine.observer` are set by the host.
  RankOptions rank;
  // On a GPU, which of the visible ones; not set: the one that has the rank's number.
  std::optional<int> gpu;
  // This host's name or address, as the other ranks reach it.
  std::string host = "127.0.0.1";
  // Told, in a sentence, what happens. May be empty.
  std::function<void(const std::string& sentence)> log;
};

// Runs a model for a group: loads the part of the rank that the worker gets, which stays in memory
// while it keeps that rank, connects the ranks (over NCCL where they compute on GPUs), and makes
// rank 0's WorkerService serve.
class ModelHost : public RankHost {
 public:
  // `service` and `metrics` outlive the host.
  ModelHost(const ModelHostOptions& options, WorkerService* service, EngineMetrics* metrics)
      : options_(options), service_(service), metrics_(metrics) {}

  // Loads a rank's part before it is asked for. Errors as Rank::Load.
  absl::Status Load(int rank);

  std::optional<int> held_rank() const override;
  absl::StatusOr<Engine*> Start(const GroupPlace& place, Rendezvous& rendezvous) override;
  void OnRunning() override;
  void Stop(const absl::Status& reason) override;

 private:
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const GroupPlace& place,
                                                        Rendezvous& rendezvous);
  // Sessions that all ranks have memory for, those they were loaded for included. Every rank calls
  // it; others than rank 0 learn nothing, and get 0.
  absl::StatusOr<int64_t> SessionsThatFit(Communicator& communicator) const;
  v1::Model Describe(int64_t sessions_that_fit) const;

  const ModelHostOptions options_;
  WorkerService* const service_;
  EngineMetrics* const metrics_;
  absl::Time metrics_time_ = absl::InfinitePast();  // of their last update

  // Each uses those before it.
  std::unique_ptr<Rank> rank_;
  absl::StatusOr<ChatTemplate> chat_template_ = absl::UnknownError("no model is loaded");
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<LeaderState> leader_;  // on rank 0
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_MODEL_HOST_H_
