#ifndef WEIR_TESTS_INTEGRATION_API_H_
#define WEIR_TESTS_INTEGRATION_API_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "weir/v1/generation.grpc.pb.h"
#include "weir/v1/model.grpc.pb.h"
#include "weir/v1/session.grpc.pb.h"

namespace weir {

// The public API as any gRPC program sees it: raw stubs, deadlines of 30 seconds, gRPC's own
// statuses. Thread-safe.
class Api {
 public:
  explicit Api(const std::string& address);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // The id of a new session; empty, and a failed test, where there is none.
  std::string NewSession();
  grpc::Status Delete(const std::string& session);
  v1::Session Get(const std::string& session);

  // An answer's responses joined: text, all tokens, the last message's other fields.
  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* answer = nullptr,
                        grpc::ClientContext* context = nullptr);
  grpc::Status Score(const v1::ScoreRequest& request, std::vector<float>* logprobs = nullptr);
  grpc::Status Tokenize(const std::string& text);
  // Pieces follow each other from `offset` on; the last one ends the text if `end`.
  grpc::Status Append(const std::string& session, int64_t offset,
                      const std::vector<std::string>& pieces, bool end = true,
                      v1::AppendResponse* response = nullptr);
  // Sends `bytes` as the request of "/package.Service/Method"; unary or server stream.
  grpc::Status SendBytes(const std::string& method, absl::string_view bytes);

  v1::SessionService::Stub& sessions() { return *sessions_; }
  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::ModelService::Stub& models() { return *models_; }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ModelService::Stub> models_;
};

// A context whose call ends after `milliseconds`.
std::unique_ptr<grpc::ClientContext> Deadline(int milliseconds = 30000);

// A request to go on for `max_tokens` (0: for ever) after `text`, whatever the model says.
v1::GenerateRequest GoOn(const std::string& text, int max_tokens, const std::string& session = "");

// The body of http://127.0.0.1:PORT/metrics.
std::string Scrape(const std::string& url);

}  // namespace weir

#endif  // WEIR_TESTS_INTEGRATION_API_H_
