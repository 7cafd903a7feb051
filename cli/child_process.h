#ifndef WEIR_CLI_CHILD_PROCESS_H_
#define WEIR_CLI_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir {

// Another process of this executable, which ends when this one does, however that ends. Its
// standard output appears on ours, every line behind a name; its standard error is ours.
class ChildProcess {
 public:
  // Runs `weir ARGUMENTS...`.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::string& name, const std::vector<std::string>& arguments);
  // Tells the process to end, and kills it if it does not within ten seconds.
  ~ChildProcess();

  // How it ended ("exit code 1", "signal 9"), once it has.
  std::optional<std::string> Ended();
  // For how long it has been stopped (SIGSTOP, a debugger); zero while it runs.
  absl::Duration Suspended();
  // Tells it to end; returns at once.
  void Stop();
  // Ends it, also while it is stopped; returns at once.
  void Kill();

 private:
  ChildProcess(pid_t pid, int output, const std::string& name);

  const pid_t pid_;
  std::optional<std::string> ended_;
  std::optional<absl::Time> suspended_at_;
  std::thread relay_;
};

}  // namespace weir

#endif  // WEIR_CLI_CHILD_PROCESS_H_
