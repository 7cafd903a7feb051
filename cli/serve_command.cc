#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/serving.h"
#include "cli/terminal.h"
#include "cli/worker_flags.h"
#include "client/client.h"
#include "coordinator/coordinator_server.h"
#include "monitoring/metrics.h"
#include "monitoring/metrics_server.h"
#include "proto/version.h"
#include "worker/service/worker_server.h"

namespace weir {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr absl::Duration kRestartPause = absl::Seconds(1);
// The group cannot form again without a worker that somebody stopped; by now it has ended anyway.
constexpr absl::Duration kLongestSuspension = absl::Seconds(15);

struct Options {
  std::string host = "127.0.0.1";
  int port = 7411;
  int metrics_port = 7413;
  double stall_timeout_s = 10;
  WorkerFlags worker;
};

// One worker process, started again when it ends.
struct Supervised {
  int rank = 0;
  std::string name;
  std::unique_ptr<ChildProcess> process;
  absl::Time start_at = absl::InfinitePast();
};

class Serve {
 public:
  explicit Serve(const Options& options) : options_(options), metrics_(kVersion) {}

  absl::Status Run() {
    CatchInterrupts();
    // Here, so that it is said once and not by every worker.
    absl::Status status = WorkerServer::Check(options_.worker.ToOptions());
    if (status.ok()) status = StartCoordinator();
    if (status.ok()) status = StartWorkers();
    if (status.ok()) status = WaitUntilReady();
    if (status.ok()) {
      std::cout << "serving gRPC on " << options_.host << ":" << coordinator_->port()
                << "\nmetrics at http://" << options_.host << ":" << metrics_server_->port()
                << "/metrics" << std::endl;
      Supervise();
    }
    if (coordinator_ != nullptr) coordinator_->Stop(kDrainTime);
    // All at once; each is then waited for when it is destroyed.
    for (Supervised& worker : workers_) {
      if (worker.process != nullptr) worker.process->Stop();
    }
    return status;
  }

 private:
  absl::Status StartCoordinator() {
    absl::StatusOr<std::unique_ptr<MetricsServer>> metrics_server =
        MetricsServer::Start(metrics_, absl::StrCat(options_.host, ":", options_.metrics_port));
    if (!metrics_server.ok()) return metrics_server.status();
    metrics_server_ = *std::move(metrics_server);

    CoordinatorOptions options;
    options.listen_address = absl::StrCat(options_.host, ":", options_.port);
    options.group_listen_address = "127.0.0.1:0";
    options.version = kVersion;
    options.tensor_parallel = options_.worker.tensor_parallel;
    options.stall_timeout = absl::Seconds(options_.stall_timeout_s);
    options.log = LogSentence;
    absl::StatusOr<std::unique_ptr<CoordinatorServer>> coordinator =
        CoordinatorServer::Start(std::move(options), &metrics_);
    if (!coordinator.ok()) return coordinator.status();
    coordinator_ = *std::move(coordinator);
    return absl::OkStatus();
  }

  absl::Status StartWorkers() {
    for (int i = 0; i < options_.worker.tensor_parallel; ++i) {
      Supervised& worker = workers_.emplace_back();
      worker.rank = i;
      worker.name = absl::StrCat("worker ", i);
      const absl::Status status = StartWorker(worker);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status StartWorker(Supervised& worker) {
    std::vector<std::string> arguments = options_.worker.ToArguments(worker.rank);
    arguments.push_back(absl::StrCat("--coordinator=127.0.0.1:", coordinator_->group_port()));
    absl::StatusOr<std::unique_ptr<ChildProcess>> process =
        ChildProcess::Start(worker.name, arguments);
    if (!process.ok()) return process.status();
    worker.process = *std::move(process);
    return absl::OkStatus();
  }

  // A worker that ends before it ever served will not do better the next time; it has said why.
  absl::Status WaitUntilReady() {
    Progress progress;
    auto client = Client::Connect(absl::StrCat(options_.host, ":", coordinator_->port()));
    while (!Interrupted()) {
      absl::StatusOr<v1::ListModelsResponse> models = client->ListModels();
      if (models.ok() && models->models_size() > 0) {
        progress.Clear();
        Describe(models->models(0));
        return absl::OkStatus();
      }
      for (Supervised& worker : workers_) {
        if (const auto ended = worker.process->Ended()) {
          return absl::UnavailableError(
              absl::StrCat(worker.name, " ended before it could serve: ", *ended));
        }
      }
      progress.Show(
          absl::StrCat("loading ", options_.worker.model, ": ", coordinator_->Describe()));
      absl::SleepFor(kPoll);
    }
    return absl::CancelledError("interrupted");
  }

  static void Describe(const v1::Model& model) {
    std::cout << absl::StrFormat(
                     "%s on %d x %s\nroom for %d sessions of %s: %d sinks and %d slots in %d "
                     "sub-caches each, whatever a session reads; there is memory for %d",
                     model.name(), model.tensor_parallel(), model.device(), model.session_slots(),
                     Bytes(model.session_bytes()), model.cascade().sinks(), model.cascade().slots(),
                     model.cascade().sub_caches(), model.sessions_that_fit())
              << std::endl;
  }

  void Supervise() {
    while (!Interrupted()) {
      for (Supervised& worker : workers_) {
        if (worker.process != nullptr) {
          if (const auto ended = worker.process->Ended()) {
            LogSentence(absl::StrCat(worker.name, " ended with ", *ended, "; starting it again"));
            worker.process = nullptr;
            worker.start_at = absl::Now() + kRestartPause;
          } else if (worker.process->Suspended() > kLongestSuspension) {
            LogSentence(absl::StrCat(worker.name, " is stopped; ending it"));
            worker.process->Kill();
          }
        } else if (absl::Now() >= worker.start_at) {
          const absl::Status status = StartWorker(worker);
          if (!status.ok()) {
            LogSentence(std::string(status.message()));
            worker.start_at = absl::Now() + kRestartPause;
          }
        }
      }
      absl::SleepFor(kPoll);
    }
    Interrupted() = false;
  }

  const Options options_;
  Metrics metrics_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<CoordinatorServer> coordinator_;
  std::vector<Supervised> workers_;
};

}  // namespace

void AddServeCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app =
      line.Add("serve", "Serves a model: a coordinator and its workers, in one command.",
               "weir serve --model smollm2.gguf --tensor-parallel 3",
               [options] { return Serve(*options).Run(); });
  app->add_option("--host", options->host, "address to listen on")->capture_default_str();
  AddPort(*app, "--port", options->port, "port of the API; 0: a free one");
  AddPort(*app, "--metrics-port", options->metrics_port, "port of Prometheus metrics");
  AddStallTimeout(*app, options->stall_timeout_s);
  options->worker.AddTo(*app);
}

}  // namespace weir
