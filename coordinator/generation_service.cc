#include "coordinator/generation_service.h"

#include <memory>
#include <string>
#include <utility>

#include "coordinator/forward.h"
#include "coordinator/leader.h"
#include "proto/grpc_status.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {

grpc::Status GenerationService::Append(grpc::ServerContext* context,
                                       grpc::ServerReader<v1::AppendRequest>* reader,
                                       v1::AppendResponse* response) {
  RequestRecord record(metrics_, "Append", context);
  return record.End(ForwardAppend(*context, reader, response));
}

grpc::Status GenerationService::ForwardAppend(const grpc::ServerContext& context,
                                              grpc::ServerReader<v1::AppendRequest>* reader,
                                              v1::AppendResponse* response) {
  worker::v1::AppendRequest piece;
  if (!reader->Read(piece.mutable_request())) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                        "the stream ended without a message; the first names the session");
  }
  auto leader = router_->ForSession(piece.request().session_id());
  if (!leader.ok()) return ToGrpcStatus(leader.status());

  LeaderCall call(*std::move(leader), context);
  worker::v1::AppendResponse appended;
  const auto writer = call.stub()->Append(call.context(), &appended);
  bool open = writer->Write(piece);
  while (open && reader->Read(piece.mutable_request())) open = writer->Write(piece);
  // When the leader ended the call, its status says why.
  if (open) writer->WritesDone();
  const grpc::Status status = writer->Finish();
  *response = std::move(*appended.mutable_response());
  return call.Result(status);
}

grpc::Status GenerationService::Generate(grpc::ServerContext* context,
                                         const v1::GenerateRequest* request,
                                         grpc::ServerWriter<v1::GenerateResponse>* writer) {
  RequestRecord record(metrics_, "Generate", context);
  auto leader = router_->ForCall(request->session_id());
  if (!leader.ok()) return record.End(ToGrpcStatus(leader.status()));
  LeaderCall call(*std::move(leader), *context);
  worker::v1::GenerateRequest generate;
  *generate.mutable_request() = *request;
  const auto reader = call.stub()->Generate(call.context(), generate);
  return record.End(ForwardStream<worker::v1::GenerateResponse, v1::GenerateResponse>(
      &call, reader.get(), writer,
      [&record](const v1::GenerateResponse& response, RequestRecord::Clock::time_point received) {
        if (response.tokens_size() > 0) record.TokensStreamed(response.tokens_size(), received);
      }));
}

grpc::Status GenerationService::Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                                      grpc::ServerWriter<v1::ScoreResponse>* writer) {
  RequestRecord record(metrics_, "Score", context);
  auto leader = router_->ForCall(request->session_id());
  if (!leader.ok()) return record.End(ToGrpcStatus(leader.status()));
  LeaderCall call(*std::move(leader), *context);
  worker::v1::ScoreRequest score;
  *score.mutable_request() = *request;
  const auto reader = call.stub()->Score(call.context(), score);
  return record.End(ForwardStream<worker::v1::ScoreResponse>(&call, reader.get(), writer));
}

grpc::Status GenerationService::Tokenize(grpc::ServerContext* context,
                                         const v1::TokenizeRequest* request,
                                         v1::TokenizeResponse* response) {
  RequestRecord record(metrics_, "Tokenize", context);
  auto leader = router_->ForNewSession();
  if (!leader.ok()) return record.End(ToGrpcStatus(leader.status()));
  LeaderCall call(*std::move(leader), *context);
  worker::v1::TokenizeRequest tokenize;
  *tokenize.mutable_request() = *request;
  worker::v1::TokenizeResponse tokenized;
  const grpc::Status status = call.stub()->Tokenize(call.context(), tokenize, &tokenized);
  *response = std::move(*tokenized.mutable_response());
  return record.End(call.Result(status));
}

grpc::Status GenerationService::Detokenize(grpc::ServerContext* context,
                                           const v1::DetokenizeRequest* request,
                                           v1::DetokenizeResponse* response) {
  RequestRecord record(metrics_, "Detokenize", context);
  auto leader = router_->ForNewSession();
  if (!leader.ok()) return record.End(ToGrpcStatus(leader.status()));
  LeaderCall call(*std::move(leader), *context);
  worker::v1::DetokenizeRequest detokenize;
  *detokenize.mutable_request() = *request;
  worker::v1::DetokenizeResponse detokenized;
  const grpc::Status status = call.stub()->Detokenize(call.context(), detokenize, &detokenized);
  *response = std::move(*detokenized.mutable_response());
  return record.End(call.Result(status));
}

}  // namespace weir
