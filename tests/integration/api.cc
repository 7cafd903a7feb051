#include "tests/integration/api.h"

#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weir {

Api::Api(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  sessions_ = v1::SessionService::NewStub(channel_);
  generation_ = v1::GenerationService::NewStub(channel_);
  models_ = v1::ModelService::NewStub(channel_);
}

std::unique_ptr<grpc::ClientContext> Deadline(int milliseconds) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(milliseconds));
  return context;
}

v1::GenerateRequest GoOn(const std::string& text, int max_tokens, const std::string& session) {
  v1::GenerateRequest request;
  if (!text.empty()) request.set_text(text);
  request.set_max_tokens(max_tokens);
  request.set_ignore_end_token(true);
  request.set_session_id(session);
  return request;
}

std::string Api::NewSession() {
  v1::CreateSessionResponse response;
  const grpc::Status status = sessions_->CreateSession(Deadline().get(), {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.session().id();
}

grpc::Status Api::Delete(const std::string& session) {
  v1::DeleteSessionRequest request;
  v1::DeleteSessionResponse response;
  request.set_session_id(session);
  return sessions_->DeleteSession(Deadline().get(), request, &response);
}

v1::Session Api::Get(const std::string& session) {
  v1::GetSessionRequest request;
  v1::GetSessionResponse response;
  request.set_session_id(session);
  const grpc::Status status = sessions_->GetSession(Deadline().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.session();
}

grpc::Status Api::Generate(const v1::GenerateRequest& request, v1::GenerateResponse* answer,
                           grpc::ClientContext* context) {
  const auto own_context = Deadline();
  const auto reader =
      generation_->Generate(context == nullptr ? own_context.get() : context, request);
  v1::GenerateResponse response;
  v1::GenerateResponse joined;
  while (reader->Read(&response)) {
    const std::string text = joined.text() + response.text();
    joined.MergeFrom(response);  // Appends the tokens.
    joined.set_text(text);
  }
  if (answer != nullptr) *answer = joined;
  return reader->Finish();
}

grpc::Status Api::Score(const v1::ScoreRequest& request, std::vector<float>* logprobs) {
  const auto context = Deadline();
  const auto reader = generation_->Score(context.get(), request);
  v1::ScoreResponse response;
  while (reader->Read(&response)) {
    for (const v1::TokenLogprob& token : response.tokens()) {
      if (logprobs != nullptr && token.has_logprob()) logprobs->push_back(token.logprob());
    }
  }
  return reader->Finish();
}

grpc::Status Api::Tokenize(const std::string& text) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  request.set_text(text);
  return generation_->Tokenize(Deadline().get(), request, &response);
}

grpc::Status Api::Append(const std::string& session, int64_t offset,
                         const std::vector<std::string>& pieces, bool end,
                         v1::AppendResponse* response) {
  const auto context = Deadline();
  v1::AppendResponse own_response;
  const auto writer =
      generation_->Append(context.get(), response == nullptr ? &own_response : response);
  for (size_t i = 0; i < pieces.size(); ++i) {
    v1::AppendRequest request;
    request.set_session_id(session);
    request.set_offset(offset);
    request.set_text(pieces[i]);
    request.set_end_of_text(end && i + 1 == pieces.size());
    offset += static_cast<int64_t>(pieces[i].size());
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  return writer->Finish();
}

grpc::Status Api::SendBytes(const std::string& method, absl::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  grpc::GenericStub stub(channel_);
  const auto context = Deadline();
  grpc::CompletionQueue queue;
  const auto call =
      stub.PrepareUnaryCall(context.get(), method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

std::string Scrape(const std::string& url) {
  const size_t colon = url.rfind(':');
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(url.substr(colon + 1, url.rfind('/') - colon - 1), &port)) << url;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string response;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    constexpr absl::string_view kGet = "GET /metrics HTTP/1.0\r\n\r\n";
    EXPECT_EQ(write(fd, kGet.data(), kGet.size()), static_cast<ssize_t>(kGet.size()));
    char buffer[65536];
    ssize_t count;
    while ((count = read(fd, buffer, sizeof(buffer))) > 0) {
      response.append(buffer, static_cast<size_t>(count));
    }
  }
  close(fd);
  const size_t body = response.find("\r\n\r\n");
  return body == std::string::npos ? "" : response.substr(body + 4);
}

}  // namespace weir
