#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/commands.h"
#include "cli/serving.h"
#include "cli/terminal.h"
#include "cli/worker_flags.h"
#include "monitoring/metrics.h"
#include "monitoring/metrics_server.h"
#include "proto/version.h"
#include "worker/service/worker_server.h"

namespace weir {
namespace {

struct Options {
  std::string host = "127.0.0.1";
  int port = 7414;
  int metrics_port = 7415;
  std::string advertised_host;
  std::string coordinator = "127.0.0.1:7412";
  std::optional<int> rank;
  WorkerFlags worker;
};

absl::Status RunWorker(const Options& options) {
  CatchInterrupts();
  Metrics metrics(kVersion);
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics_server =
      MetricsServer::Start(metrics, absl::StrCat(options.host, ":", options.metrics_port));
  if (!metrics_server.ok()) return metrics_server.status();
  // Before the model is loaded, which takes a while.
  std::cout << "metrics at http://" << options.host << ":" << (*metrics_server)->port()
            << "/metrics" << std::endl;

  WorkerOptions worker = options.worker.ToOptions();
  worker.listen_address = absl::StrCat(options.host, ":", options.port);
  worker.advertised_host = options.advertised_host;
  worker.coordinator_address = options.coordinator;
  worker.version = kVersion;
  worker.preferred_rank = options.rank;
  worker.log = LogSentence;
  absl::StatusOr<std::unique_ptr<WorkerServer>> server =
      WorkerServer::Start(std::move(worker), &metrics);
  if (!server.ok()) return server.status();

  while (!Interrupted() && (*server)->status().ok()) absl::SleepFor(absl::Milliseconds(50));
  const absl::Status status = (*server)->status();
  (*server)->Stop(kDrainTime);
  return status;
}

}  // namespace

void AddWorkerCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app =
      line.Add("worker", "Runs one rank of a group of workers.",
               "weir worker --model smollm2.gguf --tensor-parallel 3 --coordinator 10.0.0.1:7412",
               [options] { return RunWorker(*options); });
  app->add_option("--host", options->host, "address to listen on")->capture_default_str();
  AddPort(*app, "--port", options->port, "port for the coordinator; 0: a free one");
  AddPort(*app, "--metrics-port", options->metrics_port, "port of Prometheus metrics");
  app->add_option("--advertised-host", options->advertised_host,
                  "where others reach this host, if not at --host");
  app->add_option("--coordinator", options->coordinator, "address where workers join")
      ->capture_default_str();
  app->add_option("--rank", options->rank, "rank to ask for and load first (any)");
  options->worker.AddTo(*app);
}

}  // namespace weir
