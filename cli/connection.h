#ifndef WEIR_CLI_CONNECTION_H_
#define WEIR_CLI_CONNECTION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/flags.h"
#include "client/client.h"

namespace weir {

class LocalServer;

// A client, and the server inside this process if that is where it runs.
class Connection {
 public:
  // With --model, starts coordinator and worker in this process and waits until they are ready.
  static absl::StatusOr<Connection> Open(const ConnectionFlags& flags, const CascadeFlags& cascade);
  Connection(Connection&&);
  ~Connection();

  Client& client() const { return *client_; }

 private:
  Connection();

  std::unique_ptr<LocalServer> server_;
  std::unique_ptr<Client> client_;
};

// A session that a command uses: one that exists, or one of its own that it deletes at the end.
class ClientSession {
 public:
  // Empty `id`: creates a session with `cascade` and deletes it when the lease ends.
  static absl::StatusOr<std::unique_ptr<ClientSession>> Take(Client& client, const std::string& id,
                                                             const CascadeFlags& cascade);
  ~ClientSession();

  const std::string& id() const { return id_; }

 private:
  ClientSession(Client& client, std::string id, bool own);

  Client& client_;
  const std::string id_;
  const bool own_;
};

}  // namespace weir

#endif  // WEIR_CLI_CONNECTION_H_
