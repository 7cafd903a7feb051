#ifndef WEIR_CLI_COMMAND_LINE_H_
#define WEIR_CLI_COMMAND_LINE_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace weir {

// The command line of `weir`: sub-commands with their flags, help and errors.
class CommandLine {
 public:
  CommandLine();

  // Adds a sub-command. Its --help shows `summary`, the flags that the caller adds to the returned
  // app, and `example`. `run` is called after parsing, if the user asked for it.
  CLI::App* Add(const std::string& name, const std::string& summary, const std::string& example,
                std::function<absl::Status()> run);

  // As Add, below `parent`, whose help stands for the example.
  CLI::App* AddTo(CLI::App* parent, const std::string& name, const std::string& summary,
                  std::function<absl::Status()> run);

  // Parses and runs. Returns the exit code: 0, 1 when the command failed (its status is on
  // standard error), 2 when the command line is wrong, 130 when the user interrupted it.
  int Run(int argc, char** argv);

 private:
  int ReportUsage(const CLI::ParseError& error);

  CLI::App app_;
  // Parents before their sub-commands.
  std::vector<std::pair<CLI::App*, std::function<absl::Status()>>> commands_;
};

// The one of `candidates` that `word` was probably meant to be; empty if none is near.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace weir

#endif  // WEIR_CLI_COMMAND_LINE_H_
