#include "cli/command_line.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace weir {
namespace {

// Levenshtein's distance: insertions, deletions and replacements between two words.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return names;
}

// The innermost command that the user named.
const CLI::App& Chosen(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : Chosen(*chosen.front());
}

// As the user types it: "weir session create".
std::string FullName(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : absl::StrCat(FullName(*parent), " ", app.get_name());
}

// Help that fits a screen: one blank line between groups of flags instead of two.
class DenseFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    return absl::StrReplaceAll(Formatter::make_help(app, std::move(name), mode),
                               {{"\n\n\n", "\n\n"}});
  }
};

}  // namespace

std::string Nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

CommandLine::CommandLine()
    : app_("Weir serves long-context LLM sessions in memory that never grows.", "weir") {
  app_.require_subcommand(1);
  app_.formatter(std::make_shared<DenseFormatter>());
  app_.get_formatter()->column_width(30);
  app_.get_formatter()->label("REQUIRED", "(needed)");
  app_.footer("`weir COMMAND --help` shows a command's flags and an example.");
}

CLI::App* CommandLine::Add(const std::string& name, const std::string& summary,
                           const std::string& example, std::function<absl::Status()> run) {
  CLI::App* command = app_.add_subcommand(name, summary);
  command->footer("Example:\n  " + example);
  commands_.emplace_back(command, std::move(run));
  return command;
}

CLI::App* CommandLine::AddTo(CLI::App* parent, const std::string& name, const std::string& summary,
                             std::function<absl::Status()> run) {
  CLI::App* command = parent->add_subcommand(name, summary);
  command->footer("");  // It would inherit the parent's, which shows one of several.
  commands_.emplace_back(command, std::move(run));
  return command;
}

int CommandLine::ReportUsage(const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app_.exit(error);  // --help

  const CLI::App& command = Chosen(app_);
  const bool needs_command = !command.get_subcommands(nullptr).empty();
  const std::string command_name = FullName(command);
  std::string message = error.what();
  for (const std::string& extra : app_.remaining(true)) {
    const bool is_flag = absl::StartsWith(extra, "-");
    if (!is_flag && !needs_command) continue;  // Perhaps the value of an unknown flag.
    const std::string word = std::vector<std::string>(absl::StrSplit(extra, '='))[0];
    message = absl::StrCat("unknown ", is_flag ? "flag " : "command ", word);
    const std::string nearest = Nearest(word, is_flag ? FlagNames(command) : CommandNames(command));
    if (!nearest.empty()) absl::StrAppend(&message, "; did you mean ", nearest, "?");
    break;
  }
  std::cerr << command_name << ": " << message << "\n`" << command_name
            << " --help` lists what it takes.\n";
  return 2;
}

int CommandLine::Run(int argc, char** argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return ReportUsage(error);
  }
  for (auto entry = commands_.rbegin(); entry != commands_.rend(); ++entry) {
    const auto& [command, run] = *entry;
    if (!command->parsed()) continue;
    const absl::Status status = run();
    if (status.ok()) return 0;
    if (status.code() == absl::StatusCode::kCancelled) return 130;
    std::cerr << FullName(*command) << ": " << status.message() << "\n";
    return 1;
  }
  return 2;
}

}  // namespace weir
