#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/commands.h"
#include "cli/serving.h"
#include "cli/terminal.h"
#include "coordinator/coordinator_server.h"
#include "monitoring/metrics.h"
#include "monitoring/metrics_server.h"
#include "proto/version.h"

namespace weir {
namespace {

struct Options {
  std::string host = "127.0.0.1";
  int port = 7411;
  int group_port = 7412;
  int metrics_port = 7413;
  int tensor_parallel = 0;
  double stall_timeout_s = 10;
};

absl::Status Run(const Options& options) {
  CatchInterrupts();
  Metrics metrics(kVersion);
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics_server =
      MetricsServer::Start(metrics, absl::StrCat(options.host, ":", options.metrics_port));
  if (!metrics_server.ok()) return metrics_server.status();

  CoordinatorOptions coordinator;
  coordinator.listen_address = absl::StrCat(options.host, ":", options.port);
  coordinator.group_listen_address = absl::StrCat(options.host, ":", options.group_port);
  coordinator.version = kVersion;
  coordinator.tensor_parallel = options.tensor_parallel;
  coordinator.stall_timeout = absl::Seconds(options.stall_timeout_s);
  coordinator.log = LogSentence;
  absl::StatusOr<std::unique_ptr<CoordinatorServer>> server =
      CoordinatorServer::Start(std::move(coordinator), &metrics);
  if (!server.ok()) return server.status();

  std::cout << "serving gRPC on " << options.host << ":" << (*server)->port() << "\n"
            << "workers join at " << options.host << ":" << (*server)->group_port() << "\n"
            << "metrics at http://" << options.host << ":" << (*metrics_server)->port()
            << "/metrics" << std::endl;
  WaitForInterrupt();
  (*server)->Stop(kDrainTime);
  return absl::OkStatus();
}

}  // namespace

void AddCoordinatorCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("coordinator", "Serves the API and forms groups of workers.",
                           "weir coordinator --host 10.0.0.1 --tensor-parallel 2",
                           [options] { return Run(*options); });
  app->add_option("--host", options->host, "address to listen on")->capture_default_str();
  AddPort(*app, "--port", options->port, "port of the API; 0: a free one");
  AddPort(*app, "--group-port", options->group_port, "port where workers join; keep it private");
  AddPort(*app, "--metrics-port", options->metrics_port, "port of Prometheus metrics");
  app->add_option("--tensor-parallel", options->tensor_parallel,
                  "workers of a group; 0: what the first worker says")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddStallTimeout(*app, options->stall_timeout_s);
}

}  // namespace weir
