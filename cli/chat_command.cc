#include <editline/readline.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/flags.h"
#include "cli/terminal.h"

namespace weir {
namespace {

struct Options {
  std::string session;
  std::string system;
  GenerationFlags generation;
  ConnectionFlags connection;
  CascadeFlags cascade;
};

// Lines typed by the user, with editing and a history that outlives the program where standard
// input is a terminal; plain lines where it is not.
class LineReader {
 public:
  LineReader() : terminal_(IsTerminal(STDIN_FILENO)) {
    if (!terminal_) return;
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    if (state == nullptr && home == nullptr) return;
    const std::filesystem::path folder =
        (state != nullptr ? std::filesystem::path(state)
                          : std::filesystem::path(home) / ".local" / "state") /
        "weir";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return;  // A home that cannot be written costs the history, not the conversation.
    history_path_ = folder / "chat_history";
    using_history();
    read_history(history_path_.c_str());
  }

  std::optional<std::string> Read() {
    std::string line;
    if (!terminal_) return std::getline(std::cin, line) ? std::optional(line) : std::nullopt;
    std::unique_ptr<char, decltype(&std::free)> typed(readline("> "), &std::free);
    while (typed == nullptr && Interrupted()) {
      // There is no answer to stop; a Ctrl-C that came a moment late is not to end the
      // conversation.
      Interrupted() = false;
      std::cerr << "\n(Ctrl-D ends the conversation)\n";
      typed.reset(readline("> "));
    }
    if (typed == nullptr) return std::nullopt;
    line = typed.get();
    if (!line.empty()) {
      add_history(line.c_str());
      if (!history_path_.empty()) write_history(history_path_.c_str());
    }
    return line;
  }

 private:
  const bool terminal_;
  std::string history_path_;
};

absl::Status Answer(Client& client, const v1::GenerateRequest& request) {
  bool ends_line = true;
  absl::Status status = client.Generate(request, [&](const v1::GenerateResponse& response) {
    if (response.text().empty()) return;
    std::cout << response.text() << std::flush;
    ends_line = response.text().back() == '\n';
  });
  if (!ends_line) std::cout << "\n";
  return status;
}

absl::Status Run(const Options& options) {
  CatchInterrupts();
  absl::StatusOr<Connection> connection = Connection::Open(options.connection, options.cascade);
  if (!connection.ok()) return connection.status();
  Client& client = connection->client();
  auto session = ClientSession::Take(client, options.session, options.cascade);
  if (!session.ok()) return session.status();
  if (IsTerminal(STDIN_FILENO)) {
    std::cerr << "Session " << (*session)->id()
              << ". Ctrl-C stops an answer, Ctrl-D ends the conversation.\n";
  }

  v1::GenerateRequest request;
  request.set_session_id((*session)->id());
  options.generation.ApplyTo(request);
  if (!options.system.empty()) {
    v1::ChatMessage& message = *request.mutable_chat()->add_messages();
    message.set_role("system");
    message.set_content(options.system);
  }
  LineReader reader;
  while (std::optional<std::string> line = reader.Read()) {
    if (absl::StripAsciiWhitespace(*line).empty()) continue;
    v1::ChatMessage& message = *request.mutable_chat()->add_messages();
    message.set_role("user");
    message.set_content(*std::move(line));
    Interrupted() = false;
    const absl::Status status = Answer(client, request);
    request.clear_chat();
    if (status.code() == absl::StatusCode::kCancelled) {
      std::cerr << "(stopped)\n";
      Interrupted() = false;
    } else if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddChatCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("chat", "Holds a conversation in the terminal.",
                           "weir chat --model smollm2.gguf --temperature 0.7",
                           [options] { return Run(*options); });
  app->add_option("--session", options->session, "go on in this session, and keep it")
      ->type_name("ID");
  app->add_option("--system", options->system, "the system's message, for a new session");
  options->generation.AddTo(*app);
  options->connection.AddTo(*app);
  options->cascade.AddTo(*app);
}

}  // namespace weir
