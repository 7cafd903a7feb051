#ifndef WEIR_WORKER_SERVICE_WORKER_SERVER_H_
#define WEIR_WORKER_SERVICE_WORKER_SERVER_H_

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/cascade_config.h"
#include "monitoring/metrics.h"
#include "worker/service/engine_metrics.h"
#include "worker/service/group_member.h"
#include "worker/service/model_host.h"
#include "worker/service/worker_service.h"

namespace weir {

struct WorkerOptions {
  std::string model_path;            // a GGUF file; for a dummy, a config.json
  std::string load_format = "gguf";  // or "dummy", random weights: see OpenModel
  std::string device = "cpu";        // or "cuda"
  std::optional<int> gpu;            // which of the visible ones; not set: the worker's rank
  bool exact_scores = false;         // on a GPU: see CudaOptions
  int threads = 1;                   // that compute, on the CPU
  int tensor_parallel = 1;           // workers of the group
  int max_sessions = 8;
  int max_runs = 64;  // calls in the engine at once; one more is RESOURCE_EXHAUSTED
  // See EngineOptions. Only the leader's counts, so workers of a group may differ in it.
  absl::Duration token_gap = absl::Milliseconds(50);
  CascadeConfig cascade;  // of a session that asks for nothing; the largest it may ask for

  std::string listen_address = "127.0.0.1:0";  // HOST:PORT; port 0 takes a free one
  // HOST where coordinator and other workers reach this one. Empty: that of listen_address, which
  // may not stand for all interfaces then.
  std::string advertised_host;
  std::string coordinator_address;  // HOST:PORT where workers join
  // The way there if the coordinator is in this process; not set: TCP without encryption.
  std::shared_ptr<grpc::Channel> coordinator;

  std::string version;  // Weir's; the coordinator must have the same
  // The rank whose weights are loaded before the worker joins. Not set: they are loaded when it has
  // been told its rank.
  std::optional<int> preferred_rank;
  // The worker leaves its group when its engine makes no step for this long.
  absl::Duration stall_timeout = absl::Seconds(30);
  // Told, in a sentence, what happens; any thread. May be empty.
  std::function<void(const std::string& sentence)> log;
};

// A worker: WorkerService for the coordinator, with grpc.health.v1 and reflection, and membership
// in a group. Health is SERVING exactly while the worker is part of a complete group and its engine
// makes steps.
//
//   Metrics metrics(kVersion);
//   auto worker = WorkerServer::Start({.model_path = "model.gguf", ...}, &metrics);
//   ...
//   (*worker)->Stop(absl::Seconds(5));
//
// Thread-safe.
class WorkerServer {
 public:
  // Requests longer than this are RESOURCE_EXHAUSTED. More than the coordinator takes from callers,
  // since it wraps their requests.
  static constexpr int kMaxRequestBytes = (16 << 20) + (64 << 10);

  // Whether Start takes the model file and the settings, as far as can be known without loading
  // weights, and whether there are the GPUs, if any, of all workers of one host of whom `options`
  // are the first one's. Errors as Start.
  static absl::Status Check(const WorkerOptions& options);

  // Checks all that can be checked without the other workers. `metrics` outlives the server.
  // Errors: of the model file and the settings as Rank::Load, of the address as CheckListenAddress.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(const WorkerOptions& options,
                                                             Metrics* metrics);
  // Stops without waiting for calls.
  ~WorkerServer() { Stop(absl::ZeroDuration()); }
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  // The port that is listened on.
  int port() const { return port_; }

  // OK while the worker is, or tries to become, part of a group; else why it never will.
  absl::Status status() const { return member_->status(); }

  // Takes no more calls, waits for those in progress for up to `drain`, then ends them with
  // CANCELLED, and leaves the group. Later calls do nothing.
  void Stop(absl::Duration drain);

 private:
  explicit WorkerServer(Metrics* metrics) : engine_metrics_(metrics) {}

  absl::Status Listen(const std::string& address);
  void Join(const WorkerOptions& options, const std::string& host,
            const std::string& model_fingerprint);
  void SetServing(bool serving);

  EngineMetrics engine_metrics_;
  WorkerService service_;
  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::unique_ptr<GroupMember> member_;
  std::once_flag stopped_;
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_WORKER_SERVER_H_
