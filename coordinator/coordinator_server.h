#ifndef WEIR_COORDINATOR_COORDINATOR_SERVER_H_
#define WEIR_COORDINATOR_COORDINATOR_SERVER_H_

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/generation_service.h"
#include "coordinator/group_keeper.h"
#include "coordinator/group_service.h"
#include "coordinator/model_service.h"
#include "coordinator/request_metrics.h"
#include "coordinator/router.h"
#include "coordinator/session_service.h"
#include "monitoring/metrics.h"

namespace weir {

struct CoordinatorOptions {
  // HOST:PORT of the public API; port 0 takes a free one. Empty: only InProcessChannel reaches it.
  std::string listen_address = "127.0.0.1:0";
  // HOST:PORT where workers join. Not the public one, because whoever can join is trusted with
  // everybody's texts. Empty: only InProcessGroupChannel reaches it.
  std::string group_listen_address;

  std::string version;      // Weir's; workers must have the same
  int tensor_parallel = 0;  // workers of a group; 0: what the first worker says
  // A worker whose engine makes no step for this long is lost, and its group with it.
  absl::Duration stall_timeout = absl::Seconds(10);
  // Calls in progress on the public API at once; one more is RESOURCE_EXHAUSTED.
  int max_calls = 1000;

  // Makes the channel to a worker's address; not set: TCP without encryption.
  std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> connect;
  // Told, in a sentence, what happens to workers and groups; any thread. May be empty.
  std::function<void(const std::string& sentence)> log;
};

// The coordinator: the public API for callers and the GroupService for workers, each on a port of
// its own, with grpc.health.v1 and reflection. Health is SERVING, for the server and for each
// public service, exactly while some group is ready and makes steps.
//
//   Metrics metrics(kVersion);
//   auto coordinator = CoordinatorServer::Start({.listen_address = "0.0.0.0:8420", ...}, &metrics);
//   ...
//   (*coordinator)->Stop(absl::Seconds(5));
//
// Thread-safe.
class CoordinatorServer {
 public:
  // Requests longer than this are RESOURCE_EXHAUSTED.
  static constexpr int kMaxRequestBytes = 16 << 20;

  // `metrics` outlives the server. An address that cannot be listened on: as CheckListenAddress.
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(CoordinatorOptions options,
                                                                  Metrics* metrics);
  // Stops without waiting for calls.
  ~CoordinatorServer();
  CoordinatorServer(const CoordinatorServer&) = delete;
  CoordinatorServer& operator=(const CoordinatorServer&) = delete;

  // The ports that are listened on; 0: none.
  int port() const { return port_; }
  int group_port() const { return group_port_; }

  // Channels to the public API and to the GroupService for users in the same process.
  std::shared_ptr<grpc::Channel> InProcessChannel();
  std::shared_ptr<grpc::Channel> InProcessGroupChannel();

  // What is missing: "waiting for workers: 2 of 3 joined". Once a group is ready: which.
  std::string Describe() const { return keeper_.Describe(); }

  // Takes no more calls, waits for those in progress for up to `drain`, then ends them with
  // UNAVAILABLE, and all groups. A call whose handler waits for its caller's next message, such as
  // an Append, cannot be answered: it is cancelled. Later calls of Stop do nothing.
  void Stop(absl::Duration drain);

 private:
  CoordinatorServer(CoordinatorOptions options, Metrics* metrics);

  absl::Status Listen();
  absl::Status Connect(int64_t generation, const std::string& leader_address);
  void GroupEnded(int64_t generation, const std::string& reason);
  void UpdateHealth();

  const CoordinatorOptions options_;
  Router router_;
  RequestMetrics request_metrics_;
  SessionService session_service_;
  GenerationService generation_service_;
  ModelService model_service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;

  absl::Mutex health_mutex_;
  bool stopping_ ABSL_GUARDED_BY(health_mutex_) = false;

  GroupKeeper keeper_;  // calls back into all of the above
  GroupService group_service_;
  std::unique_ptr<grpc::Server> group_server_;
  int group_port_ = 0;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_COORDINATOR_SERVER_H_
