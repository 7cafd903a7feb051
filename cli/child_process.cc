#include "cli/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weir {
namespace {

constexpr absl::Duration kTimeToEnd = absl::Seconds(10);
constexpr char kSelf[] = "/proc/self/exe";

void RelayLines(int file_descriptor, const std::string& name) {
  FILE* stream = fdopen(file_descriptor, "r");
  char* line = nullptr;
  size_t capacity = 0;
  while (getline(&line, &capacity, stream) > 0) {
    std::cout << absl::StrCat(name, ": ", line) << std::flush;
  }
  std::free(line);
  std::fclose(stream);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::string& name, const std::vector<std::string>& arguments) {
  // Everything that allocates comes before the fork: other threads may hold the allocator's lock.
  std::vector<char*> argv = {const_cast<char*>("weir")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot make a pipe: ", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(output[1], STDOUT_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    // The terminal's Ctrl-C is for the parent, which tells its children.
    setpgid(0, 0);
    if (getppid() != parent) _exit(1);
    execv(kSelf, argv.data());
    _exit(127);
  }
  close(output[1]);
  if (pid < 0) {
    close(output[0]);
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start a process: ", std::strerror(errno)));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, output[0], name));
}

ChildProcess::ChildProcess(pid_t pid, int output, const std::string& name)
    : pid_(pid), relay_(RelayLines, output, name) {}

ChildProcess::~ChildProcess() {
  Stop();
  const absl::Time deadline = absl::Now() + kTimeToEnd;
  while (!Ended()) {
    if (absl::Now() > deadline) Kill();
    absl::SleepFor(absl::Milliseconds(10));
  }
  relay_.join();
}

std::optional<std::string> ChildProcess::Ended() {
  int status = 0;
  while (!ended_ && waitpid(pid_, &status, WNOHANG | WUNTRACED | WCONTINUED) == pid_) {
    if (WIFSTOPPED(status)) {
      suspended_at_ = absl::Now();
    } else if (WIFCONTINUED(status)) {
      suspended_at_.reset();
    } else {
      ended_ = WIFSIGNALED(status) ? absl::StrCat("signal ", WTERMSIG(status))
                                   : absl::StrCat("exit code ", WEXITSTATUS(status));
    }
  }
  return ended_;
}

absl::Duration ChildProcess::Suspended() {
  if (Ended() || !suspended_at_) return absl::ZeroDuration();
  return absl::Now() - *suspended_at_;
}

void ChildProcess::Stop() {
  if (!Ended()) kill(pid_, SIGTERM);
}

void ChildProcess::Kill() {
  if (!Ended()) kill(pid_, SIGKILL);
}

}  // namespace weir
