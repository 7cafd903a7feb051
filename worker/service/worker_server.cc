#include "worker/service/worker_server.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "cache/cascade_limits.h"
#include "monitoring/listen_address.h"
#include "worker/model/gguf.h"
#include "worker/model/llama_config.h"
#include "worker/model/open_model.h"

namespace weir {
namespace {

// A peer that says nothing is asked after the first of these, and given up after the second.
constexpr int kKeepaliveTimeMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;

// Between the end of the last call and that of the connections.
constexpr absl::Duration kLinger = absl::Milliseconds(100);

// The host of HOST:PORT.
absl::string_view HostOf(absl::string_view address) {
  return address.substr(0, address.rfind(':'));
}

// An IPv6 address has brackets only where a port may follow.
absl::string_view WithoutBrackets(absl::string_view host) {
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    return host.substr(1, host.size() - 2);
  }
  return host;
}

absl::StatusOr<std::string> AdvertisedHost(const WorkerOptions& options) {
  if (!options.advertised_host.empty()) return options.advertised_host;
  const absl::string_view host = HostOf(options.listen_address);
  if (host == "0.0.0.0" || host == "[::]") {
    return absl::InvalidArgumentError(
        absl::StrCat("the worker listens on ", options.listen_address,
                     ", all interfaces; it needs the host where others reach it as well"));
  }
  return std::string(host);
}

// What can be known without loading weights. Returns the model's fingerprint.
absl::StatusOr<std::string> CheckModel(const WorkerOptions& options) {
  const absl::StatusOr<std::unique_ptr<GgufFile>> file =
      OpenModel({.path = options.model_path, .load_format = options.load_format});
  if (!file.ok()) return file.status();
  const absl::StatusOr<LlamaConfig> config = ReadLlamaConfig(**file);
  if (!config.ok()) return config.status();
  absl::Status status = ValidateTensorParallel(*config, options.tensor_parallel);
  if (!status.ok()) return status;
  status = ValidateCascade(options.cascade, LimitsOf(options.cascade, config->positions));
  if (!status.ok()) return status;
  return absl::StrCat(absl::Hex((*file)->Fingerprint(), absl::kZeroPad16));
}

absl::Status CheckSettings(const WorkerOptions& options) {
  if (options.max_sessions < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_sessions is ", options.max_sessions, "; it must be at least 1"));
  }
  if (options.preferred_rank &&
      (*options.preferred_rank < 0 || *options.preferred_rank >= options.tensor_parallel)) {
    return absl::InvalidArgumentError(absl::StrCat("the preferred rank is ",
                                                   *options.preferred_rank, "; it must be 0 to ",
                                                   options.tensor_parallel - 1));
  }
  return absl::OkStatus();
}

// Equal on workers that can be ranks of one group. People read it in the coordinator's refusal.
std::string SettingsFingerprint(const WorkerOptions& options) {
  const CascadeConfig& cascade = options.cascade;
  return absl::StrCat(
      "sinks=", cascade.sinks, " slots=", cascade.slots, " sub-caches=", cascade.sub_caches,
      " stride=", cascade.stride, " beta=", absl::StrFormat("%.17g", cascade.beta),
      " head-reduction=", cascade.head_reduction == HeadReduction::kMax ? "max" : "mean",
      " max-sessions=", options.max_sessions, " device=", options.device,
      options.exact_scores ? " scores=exact" : "",
      EngineOptions().check_ranks_agree ? " build=debug" : "");
}

ModelHostOptions HostOptions(const WorkerOptions& options, const std::string& host) {
  ModelHostOptions host_options;
  host_options.gpu = options.gpu;
  host_options.host = std::string(WithoutBrackets(host));
  host_options.log = options.log;
  RankOptions& rank = host_options.rank;
  rank.model_path = options.model_path;
  rank.load_format = options.load_format;
  rank.device = options.device;
  rank.exact_scores = options.exact_scores;
  rank.threads = options.threads;
  rank.tensor_parallel = options.tensor_parallel;
  rank.engine.max_sessions = options.max_sessions;
  rank.engine.max_runs = options.max_runs;
  rank.engine.token_gap = options.token_gap;
  rank.engine.cascade = options.cascade;
  return host_options;
}

std::shared_ptr<grpc::Channel> CoordinatorChannel(const WorkerOptions& options) {
  if (options.coordinator != nullptr) return options.coordinator;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The member itself waits between attempts.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return grpc::CreateCustomChannel(options.coordinator_address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace

absl::Status WorkerServer::Check(const WorkerOptions& options) {
  if (const absl::Status settings = CheckSettings(options); !settings.ok()) return settings;
  if (const absl::Status model = CheckModel(options).status(); !model.ok()) return model;
  for (int rank = 0; rank < options.tensor_parallel; ++rank) {
    const absl::Status device = Rank::CheckDevice(options.device, options.gpu.value_or(0) + rank);
    if (!device.ok()) return device;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(const WorkerOptions& options,
                                                                  Metrics* metrics) {
  if (const absl::Status settings = CheckSettings(options); !settings.ok()) return settings;
  const absl::StatusOr<std::string> host = AdvertisedHost(options);
  if (!host.ok()) return host.status();
  const absl::StatusOr<std::string> fingerprint = CheckModel(options);
  if (!fingerprint.ok()) return fingerprint.status();

  std::unique_ptr<WorkerServer> server(new WorkerServer(metrics));
  server->host_ = std::make_unique<ModelHost>(HostOptions(options, *host), &server->service_,
                                              &server->engine_metrics_);
  // The address before the weights: a wrong one is found out at once.
  if (const absl::Status status = server->Listen(options.listen_address); !status.ok()) {
    return status;
  }
  if (options.preferred_rank) {
    const absl::Status loaded = server->host_->Load(*options.preferred_rank);
    if (!loaded.ok()) return loaded;
  }
  server->Join(options, *host, *fingerprint);
  return server;
}

absl::Status WorkerServer::Listen(const std::string& address) {
  if (const absl::Status status = CheckListenAddress(address); !status.ok()) return status;
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  // By default two servers may share a port, and each would get some of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
  SetServing(false);
  return absl::OkStatus();
}

void WorkerServer::Join(const WorkerOptions& options, const std::string& host,
                        const std::string& model_fingerprint) {
  GroupMemberOptions member;
  member.registration.set_address(absl::StrCat(host, ":", port_));
  member.registration.set_version(options.version);
  member.registration.set_model_fingerprint(model_fingerprint);
  member.registration.set_tensor_parallel(options.tensor_parallel);
  member.registration.set_device(options.device);
  member.registration.set_settings_fingerprint(SettingsFingerprint(options));
  member.coordinator = options.coordinator_address;
  member.stall_timeout = options.stall_timeout;
  member.on_serving = [this](bool serving) { SetServing(serving); };
  member.log = options.log;
  member_ = std::make_unique<GroupMember>(member, CoordinatorChannel(options), host_.get());
}

void WorkerServer::Stop(absl::Duration drain) {
  std::call_once(stopped_, [this, drain] {
    if (server_ == nullptr) return;
    server_->GetHealthCheckService()->Shutdown();
    const absl::Time deadline = absl::Now() + drain;
    service_.Withdraw(absl::UnavailableError("the worker stops"), drain);
    // A connection that is closed while something unread has come in is reset, and what its peer
    // has not read yet is lost.
    absl::SleepFor(std::min(drain, kLinger));
    server_->Shutdown(absl::ToChronoTime(deadline));
    if (member_ != nullptr) member_->Stop();
  });
}

void WorkerServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus("", serving);
  health->SetServingStatus(worker::v1::WorkerService::service_full_name(), serving);
}

}  // namespace weir
