#include <iostream>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/terminal.h"

namespace weir {
namespace {

struct Options {
  ConnectionFlags connection;
  std::string session;
  bool json = false;
  CascadeFlags cascade;
};

struct AppendOptions {
  std::string session;
  std::string path;
  bool json = false;
  ConnectionFlags connection;
};

absl::StatusOr<Connection> OpenServer(const ConnectionFlags& flags) {
  CatchInterrupts();
  return Connection::Open(flags, {});
}

absl::Status Create(const Options& options) {
  absl::StatusOr<Connection> connection = OpenServer(options.connection);
  if (!connection.ok()) return connection.status();
  absl::StatusOr<v1::Session> session =
      connection->client().CreateSession(options.cascade.ToProto());
  if (!session.ok()) return session.status();
  std::cout << (options.json ? ToJson(*session).dump() : session->id()) << "\n";
  return absl::OkStatus();
}

absl::Status Delete(const Options& options) {
  absl::StatusOr<Connection> connection = OpenServer(options.connection);
  if (!connection.ok()) return connection.status();
  return connection->client().DeleteSession(options.session);
}

absl::Status Append(const AppendOptions& options) {
  absl::StatusOr<Connection> connection = OpenServer(options.connection);
  if (!connection.ok()) return connection.status();
  absl::StatusOr<v1::AppendResponse> response =
      AppendText(connection->client(), options.session, options.path);
  if (!response.ok()) return response.status();
  if (options.json) {
    nlohmann::ordered_json json = ToJson(response->session());
    json["tokens_read"] = response->tokens_read();
    std::cout << json.dump() << "\n";
  } else {
    std::cout << "read " << WithCommas(response->tokens_read()) << " tokens; the session has seen "
              << WithCommas(response->session().tokens_seen()) << " and remembers "
              << WithCommas(response->session().tokens_cached()) << "\n";
  }
  return absl::OkStatus();
}

}  // namespace

void AddSessionCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app =
      line.Add("session", "Creates or deletes a session.",
               "weir session create --slots 512 --sub-caches 2", [] { return absl::OkStatus(); });
  app->require_subcommand(1);
  CLI::App* create = line.AddTo(app, "create", "Creates a session and prints its id.",
                                [options] { return Create(*options); });
  create->add_flag("--json", options->json, "the session as a JSON object");
  options->connection.AddServerTo(*create);
  options->cascade.AddTo(*create);
  CLI::App* remove = line.AddTo(app, "delete", "Deletes a session and ends its running call.",
                                [options] { return Delete(*options); });
  remove->add_option("session", options->session, "the session's id")->required();
  options->connection.AddServerTo(*remove);
}

void AddAppendCommand(CommandLine& line) {
  auto options = std::make_shared<AppendOptions>();
  CLI::App* app = line.Add("append", "Lets a session read a text, however long.",
                           "weir append 0123456789abcdef0123456789abcdef book.txt",
                           [options] { return Append(*options); });
  app->add_option("session", options->session, "the session's id")->required();
  app->add_option("path", options->path, "the text; - : standard input")->required();
  app->add_flag("--json", options->json, "the session afterwards as a JSON object");
  options->connection.AddServerTo(*app);
}

}  // namespace weir
