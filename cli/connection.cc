#include "cli/connection.h"

#include <utility>

#include "cli/local_server.h"
#include "cli/terminal.h"

namespace weir {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:7411";

}  // namespace

Connection::Connection() = default;
Connection::Connection(Connection&&) = default;
Connection::~Connection() = default;

absl::StatusOr<Connection> Connection::Open(const ConnectionFlags& flags,
                                            const CascadeFlags& cascade) {
  Connection connection;
  std::string address = flags.server.empty() ? kDefaultServer : flags.server;
  if (!flags.model.empty()) {
    Progress progress;
    progress.Show("loading " + flags.model);
    LocalServer::Options options;
    options.model_path = flags.model;
    options.threads = flags.threads > 0 ? flags.threads : DefaultThreads();
    options.device = flags.device.device;
    options.gpu = flags.device.gpu;
    options.exact_scores = flags.device.exact_scores();
    options.cascade = cascade.ToConfig();
    absl::StatusOr<std::unique_ptr<LocalServer>> server = LocalServer::Start(options);
    if (!server.ok()) return server.status();
    connection.server_ = *std::move(server);
    address = connection.server_->address();
  }
  connection.client_ = Client::Connect(address, &Interrupted());
  return connection;
}

ClientSession::ClientSession(Client& client, std::string id, bool own)
    : client_(client), id_(std::move(id)), own_(own) {}

absl::StatusOr<std::unique_ptr<ClientSession>> ClientSession::Take(Client& client,
                                                                   const std::string& id,
                                                                   const CascadeFlags& cascade) {
  if (!id.empty()) return std::unique_ptr<ClientSession>(new ClientSession(client, id, false));
  absl::StatusOr<v1::Session> session = client.CreateSession(cascade.ToProto());
  if (!session.ok()) return session.status();
  return std::unique_ptr<ClientSession>(new ClientSession(client, session->id(), true));
}

ClientSession::~ClientSession() {
  // A server that is gone has no session to delete.
  if (own_) client_.DeleteSession(id_).IgnoreError();
}

}  // namespace weir
