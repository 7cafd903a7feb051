#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/memory_picture.h"
#include "cli/terminal.h"

namespace weir {
namespace {

struct Options {
  std::string session;
  std::string file;
  std::vector<int> layers;
  std::string svg;
  bool json = false;
  ConnectionFlags connection;
  CascadeFlags cascade;
};

absl::Status ListSessions(Client& client, bool json) {
  absl::StatusOr<std::vector<v1::Session>> sessions = client.ListSessions();
  if (!sessions.ok()) return sessions.status();
  if (!json) {
    std::cout << absl::StrFormat("%-32s  %14s  %10s  %10s  %s\n", "session", "tokens seen",
                                 "remembered", "memory", "state");
  }
  for (const v1::Session& session : *sessions) {
    if (json) {
      std::cout << ToJson(session).dump() << "\n";
      continue;
    }
    std::cout << absl::StrFormat("%-32s  %14s  %10s  %10s  %s\n", session.id(),
                                 WithCommas(session.tokens_seen()),
                                 WithCommas(session.tokens_cached()), Bytes(session.cache_bytes()),
                                 session.running() ? "running" : "idle");
  }
  return absl::OkStatus();
}

absl::Status Write(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file) return absl::PermissionDeniedError(absl::StrCat("cannot write ", path));
  std::cerr << "wrote " << path << "\n";
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  CatchInterrupts();
  absl::StatusOr<Connection> connection = Connection::Open(options.connection, options.cascade);
  if (!connection.ok()) return connection.status();
  Client& client = connection->client();
  if (options.session.empty() && options.file.empty()) return ListSessions(client, options.json);

  auto lease = ClientSession::Take(client, options.session, options.cascade);
  if (!lease.ok()) return lease.status();
  const std::string& id = (*lease)->id();
  if (!options.file.empty()) {
    absl::StatusOr<v1::AppendResponse> read = AppendText(client, id, options.file);
    if (!read.ok()) return read.status();
  }
  absl::StatusOr<v1::Session> session = client.GetSession(id);
  if (!session.ok()) return session.status();
  std::vector<v1::InspectSessionResponse> layers;
  absl::Status status =
      client.InspectSession(id, options.layers, [&](const v1::InspectSessionResponse& layer) {
        if (options.json) {
          std::cout << ToJson(layer).dump() << "\n";
        } else {
          layers.push_back(layer);
        }
      });
  if (!status.ok() || options.json) return status;
  std::cout << absl::StrFormat("%s tokens seen, %s remembered by every head, %s in all\n",
                               WithCommas(session->tokens_seen()),
                               WithCommas(session->tokens_cached()), Bytes(session->cache_bytes()))
            << MemoryText(layers, session->tokens_seen(), TerminalWidth());
  return options.svg.empty() ? absl::OkStatus() : Write(options.svg, MemorySvg(layers, *session));
}

}  // namespace

void AddInspectCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app =
      line.Add("inspect", "Lists sessions, or shows which tokens a session still remembers.",
               "weir inspect --model smollm2.gguf --file book.txt --svg memory.svg",
               [options] { return Run(*options); });
  app->add_option("session", options->session, "the session's id; nothing: list all sessions");
  app->add_option("--file", options->file,
                  "let it read this text first; a session of its own if none")
      ->type_name("PATH");
  app->add_option("--layer", options->layers, "only this layer, head by head; may be repeated");
  app->add_option("--svg", options->svg, "write the picture to this file too")->type_name("PATH");
  app->add_flag("--json", options->json, "a JSON object a session or a layer, one a line");
  options->connection.AddTo(*app);
  options->cascade.AddTo(*app);
}

}  // namespace weir
