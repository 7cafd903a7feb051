#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace weir {
namespace {

constexpr std::chrono::milliseconds kRedraw(100);

std::atomic<bool> interrupted{false};

void OnSignal(int signal) {
  // The flag was not cleared since the last time: whoever should look at it does not.
  if (interrupted.exchange(true)) _exit(128 + signal);
}

}  // namespace

std::atomic<bool>& Interrupted() { return interrupted; }

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool IsTerminal(int file_descriptor) { return isatty(file_descriptor) == 1; }

int TerminalWidth() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string WithCommas(int64_t number) {
  std::string digits = std::to_string(number);
  const size_t first = digits[0] == '-' ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, 1, ',');
  }
  return digits;
}

std::string Bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%d bytes", bytes)
                   : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

Progress::Progress() : visible_(IsTerminal(STDERR_FILENO)), start_(Clock::now()) {}

Progress::~Progress() { Clear(); }

void Progress::Show(const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (!visible_ || (on_screen_ && now - drawn_ < kRedraw)) return;
  absl::FPrintF(stderr, "\r\033[K%s", text);
  std::fflush(stderr);
  drawn_ = now;
  on_screen_ = true;
}

void Progress::Clear() {
  if (!on_screen_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  on_screen_ = false;
}

double Progress::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

}  // namespace weir
