#ifndef WEIR_TESTS_INTEGRATION_CHILD_H_
#define WEIR_TESTS_INTEGRATION_CHILD_H_

#include <sys/types.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weir {

// A `weir` process under test: the executable among the test's data, with what it writes to
// standard output and standard error. Thread-safe.
class Child {
 public:
  // Runs `weir ARGUMENTS...` with nothing on standard input.
  explicit Child(const std::vector<std::string>& arguments);
  // Kills it if it still runs.
  ~Child();

  pid_t pid() const { return pid_; }
  // Everything written so far.
  std::string output() const;
  // Waits until `text` was written and returns the rest of its line after it; empty if the process
  // ends or 30 seconds pass before.
  std::string WaitFor(absl::string_view text) const;
  // Processes that it started and that still run, in the order in which they began.
  std::vector<pid_t> Children() const;

  void Signal(int signal) const;
  // Waits for its end: the exit code, 128 + the signal that ended it, or -1 if it runs on after
  // `timeout`.
  int Wait(absl::Duration timeout = absl::Seconds(30));

 private:
  void Read(int output);

  pid_t pid_ = -1;
  mutable absl::Mutex mutex_;
  std::string output_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  int exit_code_ = -1;  // -1 while it runs
  std::thread reader_;
};

// Whether the process is there and no zombie.
bool IsAlive(pid_t pid);

// What a command that ends by itself did.
struct Outcome {
  int exit_code = -1;
  std::string output;  // standard output and standard error
};
Outcome RunWeir(const std::vector<std::string>& arguments);

// A file in the test's own folder.
std::string TestFile(absl::string_view name);

}  // namespace weir

#endif  // WEIR_TESTS_INTEGRATION_CHILD_H_
