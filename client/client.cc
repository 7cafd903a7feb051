#include "client/client.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "proto/grpc_status.h"

namespace weir {
namespace {

constexpr std::chrono::milliseconds kCancelPoll(20);
constexpr size_t kPieceBytes = 64 * 1024;

}  // namespace

// The context of one call, cancelled when the client's flag is set.
class Client::Call {
 public:
  explicit Call(Cancel* cancel) {
    if (cancel == nullptr) return;
    watcher_ = std::thread([this, cancel] {
      while (!done_) {
        if (*cancel) {
          context_.TryCancel();
          return;
        }
        std::this_thread::sleep_for(kCancelPoll);
      }
    });
  }
  ~Call() {
    done_ = true;
    if (watcher_.joinable()) watcher_.join();
  }

  grpc::ClientContext* context() { return &context_; }

 private:
  grpc::ClientContext context_;
  std::atomic<bool> done_{false};
  std::thread watcher_;
};

Client::Client(std::shared_ptr<grpc::Channel> channel, std::string address, Cancel* cancel)
    : address_(std::move(address)),
      cancel_(cancel),
      sessions_(v1::SessionService::NewStub(channel)),
      generation_(v1::GenerationService::NewStub(channel)),
      models_(v1::ModelService::NewStub(channel)) {}

std::unique_ptr<Client> Client::Connect(const std::string& address, Cancel* cancel) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  return std::unique_ptr<Client>(new Client(std::move(channel), address, cancel));
}

absl::Status Client::ToStatus(const grpc::Status& status) const {
  // gRPC's own words about connections name everything but the address.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    const std::string& message = status.error_message();
    if (absl::StrContains(message, "failed to connect")) {
      return absl::UnavailableError(absl::StrCat("no Weir server answers at ", address_));
    }
    if (absl::StrContains(message, "DNS resolution failed")) {
      return absl::UnavailableError(absl::StrCat("no host is known for the address ", address_));
    }
    for (const char* broken : {"Socket closed", "Cancelling all calls", "Connection reset"}) {
      if (!absl::StartsWith(message, broken)) continue;
      return absl::UnavailableError(
          absl::StrCat("the Weir server at ", address_, " stopped during the call"));
    }
  }
  return FromGrpcStatus(status);
}

absl::StatusOr<v1::Session> Client::CreateSession(const v1::CascadeSettings& cascade) {
  Call call(cancel_);
  v1::CreateSessionRequest request;
  v1::CreateSessionResponse response;
  *request.mutable_cascade() = cascade;
  absl::Status status = ToStatus(sessions_->CreateSession(call.context(), request, &response));
  if (!status.ok()) return status;
  return std::move(*response.mutable_session());
}

absl::StatusOr<v1::Session> Client::GetSession(const std::string& id) {
  Call call(cancel_);
  v1::GetSessionRequest request;
  v1::GetSessionResponse response;
  request.set_session_id(id);
  absl::Status status = ToStatus(sessions_->GetSession(call.context(), request, &response));
  if (!status.ok()) return status;
  return std::move(*response.mutable_session());
}

absl::StatusOr<std::vector<v1::Session>> Client::ListSessions() {
  std::vector<v1::Session> sessions;
  v1::ListSessionsRequest request;
  do {
    Call call(cancel_);
    v1::ListSessionsResponse response;
    absl::Status status = ToStatus(sessions_->ListSessions(call.context(), request, &response));
    if (!status.ok()) return status;
    for (v1::Session& session : *response.mutable_sessions()) {
      sessions.push_back(std::move(session));
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return sessions;
}

absl::Status Client::DeleteSession(const std::string& id) {
  Call call(nullptr);  // Cleaning up goes through after Ctrl-C too.
  v1::DeleteSessionRequest request;
  v1::DeleteSessionResponse response;
  request.set_session_id(id);
  return ToStatus(sessions_->DeleteSession(call.context(), request, &response));
}

absl::Status Client::InspectSession(
    const std::string& id, const std::vector<int>& layers,
    const std::function<void(const v1::InspectSessionResponse&)>& on_layer) {
  Call call(cancel_);
  v1::InspectSessionRequest request;
  request.set_session_id(id);
  for (int layer : layers) request.add_layers(layer);
  auto reader = sessions_->InspectSession(call.context(), request);
  v1::InspectSessionResponse response;
  while (reader->Read(&response)) on_layer(response);
  return ToStatus(reader->Finish());
}

absl::StatusOr<v1::AppendResponse> Client::Append(const std::string& id,
                                                  const NextPiece& next_piece,
                                                  const std::function<void(int64_t)>& on_sent) {
  absl::StatusOr<v1::Session> session = GetSession(id);
  if (!session.ok()) return session.status();

  Call call(cancel_);
  v1::AppendResponse response;
  auto writer = generation_->Append(call.context(), &response);
  v1::AppendRequest request;
  request.set_session_id(id);
  request.set_offset(session->appended_bytes());
  int64_t sent = 0;
  for (bool open = true; open;) {
    absl::StatusOr<std::string> text = next_piece();
    if (!text.ok()) {
      call.context()->TryCancel();
      writer->Finish();
      return text.status();
    }
    if (text->empty()) break;
    for (size_t begin = 0; open && begin < text->size(); begin += kPieceBytes) {
      request.set_text(text->substr(begin, kPieceBytes));
      open = writer->Write(request);
      if (!open) break;
      sent += static_cast<int64_t>(request.text().size());
      request.set_offset(request.offset() + static_cast<int64_t>(request.text().size()));
      if (on_sent) on_sent(sent);
    }
  }
  request.clear_text();
  request.set_end_of_text(true);
  writer->Write(request);  // If it fails, the status says why.
  writer->WritesDone();
  absl::Status status = ToStatus(writer->Finish());
  if (!status.ok()) return status;
  return response;
}

absl::Status Client::Generate(const v1::GenerateRequest& request,
                              const std::function<void(const v1::GenerateResponse&)>& on_response) {
  Call call(cancel_);
  auto reader = generation_->Generate(call.context(), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) on_response(response);
  return ToStatus(reader->Finish());
}

absl::Status Client::Score(const v1::ScoreRequest& request,
                           const std::function<void(const v1::ScoreResponse&)>& on_response) {
  Call call(cancel_);
  auto reader = generation_->Score(call.context(), request);
  v1::ScoreResponse response;
  while (reader->Read(&response)) on_response(response);
  return ToStatus(reader->Finish());
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request) {
  Call call(cancel_);
  v1::TokenizeResponse response;
  absl::Status status = ToStatus(generation_->Tokenize(call.context(), request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() {
  Call call(cancel_);
  v1::ListModelsRequest request;
  v1::ListModelsResponse response;
  absl::Status status = ToStatus(models_->ListModels(call.context(), request, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace weir
