#include "coordinator/coordinator_server.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/leader.h"
#include "coordinator/unreadable_request.h"
#include "monitoring/listen_address.h"

namespace weir {
namespace {

// A leader that reported to be ready answers at once.
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
// How long calls may take to end when they are told to, and callers to read how they ended.
constexpr absl::Duration kEndGrace = absl::Seconds(1);
constexpr absl::Duration kLinger = absl::Milliseconds(100);
// A peer that says nothing is asked after the first of these, and given up after the second.
constexpr int kKeepaliveTimeMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;

std::shared_ptr<grpc::Channel> ConnectByTcp(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // The leader is ours.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// What both servers have in common.
absl::Status Prepare(const std::string& address, grpc::ServerBuilder* builder, int* port) {
  if (!address.empty()) {
    if (absl::Status status = CheckListenAddress(address); !status.ok()) return status;
    builder->AddListeningPort(address, grpc::InsecureServerCredentials(), port);
  }
  builder->SetMaxReceiveMessageSize(CoordinatorServer::kMaxRequestBytes);
  // By default two servers may share a port, and each would get some of the calls.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Workers ask too while they wait for their group.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              kKeepaliveTimeMs / 2);
  return absl::OkStatus();
}

absl::Status CannotListen(const std::string& address) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
}

}  // namespace

CoordinatorServer::CoordinatorServer(CoordinatorOptions options, Metrics* metrics)
    : options_(std::move(options)),
      router_([this] { return keeper_.Describe(); }, metrics),
      request_metrics_(metrics),
      session_service_(&router_, &request_metrics_),
      generation_service_(&router_, &request_metrics_),
      model_service_(&router_, &request_metrics_, options_.version),
      keeper_(
          {.table =
               {.version = options_.version,
                .tensor_parallel = options_.tensor_parallel,
                .stall_timeout = options_.stall_timeout,
                // No generation of an earlier coordinator, which a worker may still believe in.
                .first_generation = absl::ToUnixSeconds(absl::Now())},
           .connect = [this](int64_t generation,
                             const std::string& address) { return Connect(generation, address); },
           .ended = [this](int64_t generation,
                           const std::string& reason) { GroupEnded(generation, reason); },
           .log = options_.log},
          metrics),
      group_service_(&keeper_) {}

CoordinatorServer::~CoordinatorServer() { Stop(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(
    CoordinatorOptions options, Metrics* metrics) {
  grpc::EnableDefaultHealthCheckService(true);
  // In a static link it does not register itself.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<CoordinatorServer> server(new CoordinatorServer(std::move(options), metrics));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

absl::Status CoordinatorServer::Listen() {
  grpc::ServerBuilder builder;
  absl::Status status = Prepare(options_.listen_address, &builder, &port_);
  if (!status.ok()) return status;
  grpc::ResourceQuota quota("weir");
  // A thread for each call, and one that waits for the next.
  quota.SetMaxThreads(options_.max_calls + 1);
  builder.SetResourceQuota(quota);
  builder.RegisterService(&session_service_);
  builder.RegisterService(&generation_service_);
  builder.RegisterService(&model_service_);
  builder.experimental().SetInterceptorCreators(ExplainUnreadableRequests());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return CannotListen(options_.listen_address);
  UpdateHealth();

  grpc::ServerBuilder group_builder;
  status = Prepare(options_.group_listen_address, &group_builder, &group_port_);
  if (!status.ok()) return status;
  group_builder.RegisterService(&group_service_);
  group_server_ = group_builder.BuildAndStart();
  if (group_server_ == nullptr) return CannotListen(options_.group_listen_address);
  return absl::OkStatus();
}

absl::Status CoordinatorServer::Connect(int64_t generation, const std::string& leader_address) {
  auto leader = Leader::Connect(
      generation, leader_address,
      options_.connect ? options_.connect(leader_address) : ConnectByTcp(leader_address),
      kConnectTimeout);
  if (!leader.ok()) return leader.status();
  router_.AddLeader(*std::move(leader));
  UpdateHealth();
  return absl::OkStatus();
}

void CoordinatorServer::GroupEnded(int64_t generation, const std::string& reason) {
  router_.EndGroup(generation, reason);
  UpdateHealth();
}

void CoordinatorServer::UpdateHealth() {
  absl::MutexLock lock(&health_mutex_);
  const bool serving = !stopping_ && !router_.leaders().empty();
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  for (const char* service :
       {"", v1::SessionService::service_full_name(), v1::GenerationService::service_full_name(),
        v1::ModelService::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
}

std::shared_ptr<grpc::Channel> CoordinatorServer::InProcessChannel() {
  return server_->InProcessChannel(grpc::ChannelArguments());
}

std::shared_ptr<grpc::Channel> CoordinatorServer::InProcessGroupChannel() {
  return group_server_->InProcessChannel(grpc::ChannelArguments());
}

void CoordinatorServer::Stop(absl::Duration drain) {
  {
    absl::MutexLock lock(&health_mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  if (server_ != nullptr) {
    UpdateHealth();
    const absl::Duration grace = std::min(drain, kEndGrace);
    router_.Close("the server stops", drain, grace);
    // A connection that is closed while something unread has come in is reset, and what its peer
    // has not read yet is lost.
    absl::SleepFor(std::min(drain, kLinger));
    // The handlers have what to answer; whoever still waits for its caller is cancelled.
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  }
  keeper_.Stop();
  if (group_server_ != nullptr) group_server_->Shutdown(std::chrono::system_clock::now());
}

}  // namespace weir
