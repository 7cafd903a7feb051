#ifndef WEIR_CLI_LOCAL_SERVER_H_
#define WEIR_CLI_LOCAL_SERVER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cascade_config.h"

namespace weir {

class CoordinatorServer;
class Metrics;
class WorkerServer;

// Weir inside this process, for the time of one command: a coordinator and one worker on a free
// loopback port. The same parts and calls as a deployment.
class LocalServer {
 public:
  struct Options {
    std::string model_path;
    int threads = 1;
    // See WorkerOptions.
    std::string device = "cpu";
    std::optional<int> gpu;
    bool exact_scores = false;
    CascadeConfig cascade;
  };

  // Loads the model and returns when it serves. Errors as Rank::Load.
  static absl::StatusOr<std::unique_ptr<LocalServer>> Start(const Options& options);
  ~LocalServer();

  // HOST:PORT of the API.
  const std::string& address() const { return address_; }

 private:
  LocalServer();

  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<CoordinatorServer> coordinator_;
  std::unique_ptr<WorkerServer> worker_;
  std::string address_;
};

}  // namespace weir

#endif  // WEIR_CLI_LOCAL_SERVER_H_
