#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/terminal.h"

namespace weir {
namespace {

absl::Status Run(const ConnectionFlags& flags) {
  absl::StatusOr<Connection> connection = Connection::Open(flags, {});
  if (!connection.ok()) return connection.status();
  absl::StatusOr<v1::ListModelsResponse> models = connection->client().ListModels();
  if (!models.ok()) return models.status();
  if (models->models().empty()) {
    return absl::UnavailableError("the server is there, but no group of workers is complete");
  }
  for (const v1::Model& model : models->models()) {
    std::cout << absl::StrFormat("%s on %d x %s: %d of %d sessions open, %s each\n", model.name(),
                                 model.tensor_parallel(), model.device(), model.sessions_open(),
                                 model.session_slots(), Bytes(model.session_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddHealthCommand(CommandLine& line) {
  auto flags = std::make_shared<ConnectionFlags>();
  CLI::App* app = line.Add("health", "Tells what a server serves; exit code 1 if it cannot.",
                           "weir health --server 127.0.0.1:7411", [flags] { return Run(*flags); });
  flags->AddServerTo(*app);
}

}  // namespace weir
