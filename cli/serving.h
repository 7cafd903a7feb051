#ifndef WEIR_CLI_SERVING_H_
#define WEIR_CLI_SERVING_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/time/time.h"

namespace weir {

// What the commands that serve have in common.

// How long calls in progress may go on after the server was told to stop.
inline constexpr absl::Duration kDrainTime = absl::Seconds(5);

// Writes a sentence with the time on standard error. Thread-safe.
void LogSentence(const std::string& sentence);

// Returns when the process is interrupted or told to end. CatchInterrupts comes first.
void WaitForInterrupt();

// --stall-timeout: when a worker counts as lost.
void AddStallTimeout(CLI::App& app, double& seconds);

// A flag for a TCP port.
void AddPort(CLI::App& app, const std::string& name, int& port, const std::string& help);

}  // namespace weir

#endif  // WEIR_CLI_SERVING_H_
