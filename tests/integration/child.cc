#include "tests/integration/child.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/runfiles.h"

namespace weir {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

struct ProcessStat {
  char state = 0;  // 0: no such process
  pid_t parent = 0;
};

ProcessStat StatOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  // A read fails if the process ends after the file was opened: getline then has nothing, where
  // iterators would throw.
  std::string content;
  std::getline(file, content);
  ProcessStat stat;
  const size_t name_end = content.rfind(')');
  if (name_end == std::string::npos) return stat;
  std::istringstream fields(content.substr(name_end + 1));
  fields >> stat.state >> stat.parent;
  return stat;
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments) {
  const std::string weir = Runfile("weir/cli/weir");
  std::vector<char*> argv = {const_cast<char*>("weir")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) std::abort();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    dup2(output[1], STDERR_FILENO);
    execv(weir.c_str(), argv.data());
    _exit(127);
  }
  close(output[1]);
  reader_ = std::thread([this, fd = output[0]] { Read(fd); });
}

Child::~Child() {
  if (exit_code_ == -1) {
    // Its children end with it, and with them the last that could write to the pipe.
    kill(pid_, SIGCONT);
    kill(pid_, SIGKILL);
    Wait(absl::InfiniteDuration());
  }
  reader_.join();
}

void Child::Read(int output) {
  char buffer[4096];
  ssize_t count;
  while ((count = read(output, buffer, sizeof(buffer))) > 0) {
    absl::MutexLock lock(&mutex_);
    output_.append(buffer, static_cast<size_t>(count));
  }
  close(output);
  absl::MutexLock lock(&mutex_);
  ended_ = true;
}

std::string Child::output() const {
  absl::MutexLock lock(&mutex_);
  return output_;
}

std::string Child::WaitFor(absl::string_view text) const {
  absl::MutexLock lock(&mutex_);
  size_t begin = std::string::npos;
  size_t end = std::string::npos;
  const auto found = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    begin = output_.find(std::string(text));
    end = begin == std::string::npos ? begin : output_.find('\n', begin);
    return end != std::string::npos || ended_;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&found), kPatience);
  if (end == std::string::npos) return "";
  begin += text.size();
  return output_.substr(begin, end - begin);
}

std::vector<pid_t> Child::Children() const {
  std::vector<pid_t> children;
  DIR* processes = opendir("/proc");
  while (const dirent* entry = readdir(processes)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    const ProcessStat stat = StatOf(pid);
    if (stat.parent == pid_ && stat.state != 'Z') children.push_back(pid);
  }
  closedir(processes);
  std::sort(children.begin(), children.end());
  return children;
}

void Child::Signal(int signal) const { kill(pid_, signal); }

int Child::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  int status = 0;
  while (exit_code_ == -1) {
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (absl::Now() > deadline) {
      return -1;
    } else {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  return exit_code_;
}

bool IsAlive(pid_t pid) {
  const char state = StatOf(pid).state;
  return state != 0 && state != 'Z' && state != 'X';
}

Outcome RunWeir(const std::vector<std::string>& arguments) {
  Outcome outcome;
  Child child(arguments);
  outcome.exit_code = child.Wait();
  child.WaitFor("\n\n(never written)");  // Until the last of its output was read.
  outcome.output = child.output();
  return outcome;
}

std::string TestFile(absl::string_view name) {
  const char* folder = std::getenv("TEST_TMPDIR");
  return absl::StrCat(folder == nullptr ? "/tmp" : folder, "/", name);
}

}  // namespace weir
