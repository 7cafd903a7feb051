#include "cli/serving.h"

#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/terminal.h"

namespace weir {

void LogSentence(const std::string& sentence) {
  // One write, so that lines of threads do not mix.
  std::cerr << absl::StrCat(
      absl::FormatTime("%Y-%m-%d %H:%M:%E3S", absl::Now(), absl::LocalTimeZone()), " ", sentence,
      "\n");
}

void WaitForInterrupt() {
  while (!Interrupted()) absl::SleepFor(absl::Milliseconds(50));
  Interrupted() = false;
}

void AddStallTimeout(CLI::App& app, double& seconds) {
  app.add_option("--stall-timeout", seconds,
                 "seconds without a step after which a worker is lost; longer than any step takes")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
}

void AddPort(CLI::App& app, const std::string& name, int& port, const std::string& help) {
  app.add_option(name, port, help)->check(CLI::Range(0, 65535))->capture_default_str();
}

}  // namespace weir
