#ifndef WEIR_COORDINATOR_GENERATION_SERVICE_H_
#define WEIR_COORDINATOR_GENERATION_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include "coordinator/request_metrics.h"
#include "coordinator/router.h"
#include "weir/v1/generation.grpc.pb.h"

namespace weir {

// The public GenerationService: passes each call to the leader that holds its session, or has room,
// and the answer back. What a request means, and its limits, the leader knows.
class GenerationService final : public v1::GenerationService::Service {
 public:
  // `router` and `metrics` outlive the service.
  GenerationService(Router* router, RequestMetrics* metrics) : router_(router), metrics_(metrics) {}

  grpc::Status Append(grpc::ServerContext* context, grpc::ServerReader<v1::AppendRequest>* reader,
                      v1::AppendResponse* response) override;
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     grpc::ServerWriter<v1::ScoreResponse>* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;

 private:
  grpc::Status ForwardAppend(const grpc::ServerContext& context,
                             grpc::ServerReader<v1::AppendRequest>* reader,
                             v1::AppendResponse* response);

  Router* const router_;
  RequestMetrics* const metrics_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_GENERATION_SERVICE_H_
