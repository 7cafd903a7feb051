#ifndef WEIR_CLIENT_CLIENT_H_
#define WEIR_CLIENT_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "weir/v1/generation.grpc.pb.h"
#include "weir/v1/model.grpc.pb.h"
#include "weir/v1/session.grpc.pb.h"

namespace weir {

// A Weir server as a C++ program sees it: the calls of weir.v1, blocking, with their errors as
// absl::Status and with cancellation from another thread or a signal handler. Thread-safe.
//
//   auto client = Client::Connect("127.0.0.1:7411");
//   v1::GenerateRequest request;
//   request.set_text("Once upon a time");
//   request.set_max_tokens(64);
//   absl::Status status = client->Generate(request, [](const v1::GenerateResponse& response) {
//     std::cout << response.text();
//   });
class Client {
 public:
  // Set to true by anyone at any time: calls in progress end with CANCELLED within 20 ms.
  using Cancel = std::atomic<bool>;

  // Does not wait for the server; the first call reports what is wrong with it. `cancel` may be
  // null and must outlive the client.
  static std::unique_ptr<Client> Connect(const std::string& address, Cancel* cancel = nullptr);

  absl::StatusOr<v1::Session> CreateSession(const v1::CascadeSettings& cascade);
  absl::StatusOr<v1::Session> GetSession(const std::string& id);
  absl::StatusOr<std::vector<v1::Session>> ListSessions();
  absl::Status DeleteSession(const std::string& id);
  // Calls `on_layer` for every layer asked for; all of them when `layers` is empty.
  absl::Status InspectSession(
      const std::string& id, const std::vector<int>& layers,
      const std::function<void(const v1::InspectSessionResponse&)>& on_layer);

  // Gives the next piece of a text, empty at its end.
  using NextPiece = std::function<absl::StatusOr<std::string>()>;
  // Appends one text to a session, from the place where the session's last append ended.
  // `on_sent` (may be null) gets the bytes handed to the server so far; the server takes them no
  // faster than it reads.
  absl::StatusOr<v1::AppendResponse> Append(const std::string& id, const NextPiece& next_piece,
                                            const std::function<void(int64_t)>& on_sent);

  absl::Status Generate(const v1::GenerateRequest& request,
                        const std::function<void(const v1::GenerateResponse&)>& on_response);
  absl::Status Score(const v1::ScoreRequest& request,
                     const std::function<void(const v1::ScoreResponse&)>& on_response);
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request);
  absl::StatusOr<v1::ListModelsResponse> ListModels();

 private:
  Client(std::shared_ptr<grpc::Channel> channel, std::string address, Cancel* cancel);

  class Call;
  absl::Status ToStatus(const grpc::Status& status) const;

  const std::string address_;
  Cancel* const cancel_;
  const std::unique_ptr<v1::SessionService::Stub> sessions_;
  const std::unique_ptr<v1::GenerationService::Stub> generation_;
  const std::unique_ptr<v1::ModelService::Stub> models_;
};

}  // namespace weir

#endif  // WEIR_CLIENT_CLIENT_H_
