#ifndef WEIR_CLI_TERMINAL_H_
#define WEIR_CLI_TERMINAL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace weir {

// Set by Ctrl-C (and, for servers, by SIGTERM) once CatchInterrupts was called. The user of the
// flag clears it when it goes on. A second Ctrl-C while the flag is set ends the process.
std::atomic<bool>& Interrupted();
void CatchInterrupts();

bool IsTerminal(int file_descriptor);
// Columns of the terminal on standard output; 80 where it is none.
int TerminalWidth();

// 1234567 as "1,234,567".
std::string WithCommas(int64_t number);
// 50331648 as "48.0 MiB".
std::string Bytes(int64_t bytes);

// A line on standard error that is redrawn as work goes on, a few times a second; nothing where
// standard error is no terminal.
class Progress {
 public:
  Progress();
  ~Progress();  // Clears the line.

  // Shows `text`, unless a line was drawn a moment ago.
  void Show(const std::string& text);
  void Clear();
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;

  const bool visible_;
  const Clock::time_point start_;
  Clock::time_point drawn_;
  bool on_screen_ = false;
};

}  // namespace weir

#endif  // WEIR_CLI_TERMINAL_H_
