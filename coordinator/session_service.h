#ifndef WEIR_COORDINATOR_SESSION_SERVICE_H_
#define WEIR_COORDINATOR_SESSION_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <string>

#include "coordinator/request_metrics.h"
#include "coordinator/router.h"
#include "weir/v1/session.grpc.pb.h"

namespace weir {

// The public SessionService: decides ids and places, keeps the table, and asks the leaders for
// everything else.
class SessionService final : public v1::SessionService::Service {
 public:
  // `router` and `metrics` outlive the service.
  SessionService(Router* router, RequestMetrics* metrics) : router_(router), metrics_(metrics) {}

  grpc::Status CreateSession(grpc::ServerContext* context, const v1::CreateSessionRequest* request,
                             v1::CreateSessionResponse* response) override;
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override;
  grpc::Status ListSessions(grpc::ServerContext* context, const v1::ListSessionsRequest* request,
                            v1::ListSessionsResponse* response) override;
  grpc::Status DeleteSession(grpc::ServerContext* context, const v1::DeleteSessionRequest* request,
                             v1::DeleteSessionResponse* response) override;
  grpc::Status InspectSession(grpc::ServerContext* context,
                              const v1::InspectSessionRequest* request,
                              grpc::ServerWriter<v1::InspectSessionResponse>* writer) override;

 private:
  grpc::Status Create(const grpc::ServerContext& context, const v1::CreateSessionRequest& request,
                      v1::Session* session);
  grpc::Status Describe(const grpc::ServerContext& context, const std::string& id,
                        v1::Session* session);
  grpc::Status List(const grpc::ServerContext& context, const v1::ListSessionsRequest& request,
                    v1::ListSessionsResponse* response);
  grpc::Status Delete(const grpc::ServerContext& context, const std::string& id);
  grpc::Status Inspect(const grpc::ServerContext& context, const v1::InspectSessionRequest& request,
                       grpc::ServerWriter<v1::InspectSessionResponse>* writer);

  Router* const router_;
  RequestMetrics* const metrics_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_SESSION_SERVICE_H_
