#include "kernels/cuda/peers/process_identity.h"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include "kernels/cuda/peers/random_number.h"

namespace weir {
namespace {

struct Running {
  char state;
  uint64_t started;
};

// What the kernel says of a process; nothing if there is none. See proc_pid_stat(5): the name, in
// parentheses, may have anything in it.
std::optional<Running> Ask(int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string line((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  Running running = {};
  fields >> running.state;  // the third field; the start is the 22nd
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> running.started;
  if (!fields) return std::nullopt;
  return running;
}

}  // namespace

ProcessIdentity IdentifyProcess() {
  ProcessIdentity process;
  process.random = RandomNumber();
  process.pid = getpid();
  if (const std::optional<Running> running = Ask(process.pid)) process.started = running->started;
  const ssize_t length =
      readlink("/proc/self/ns/pid", process.pid_namespace, sizeof(process.pid_namespace) - 1);
  if (length <= 0) process.started = 0;
  return process;
}

const ProcessIdentity& ThisProcess() {
  static const ProcessIdentity process = IdentifyProcess();
  return process;
}

bool HasEnded(const ProcessIdentity& process) {
  const ProcessIdentity& here = ThisProcess();
  if (here.started == 0 || process.started == 0) return false;
  if (std::memcmp(here.pid_namespace, process.pid_namespace, sizeof(here.pid_namespace)) != 0) {
    return false;
  }
  const std::optional<Running> running = Ask(process.pid);
  if (!running.has_value() || running->started != process.started) return true;
  return running->state == 'Z' || running->state == 'X';
}

}  // namespace weir
