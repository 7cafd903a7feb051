#include "coordinator/session_service.h"

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "coordinator/forward.h"
#include "coordinator/leader.h"
#include "coordinator/session_id.h"
#include "proto/grpc_status.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {
namespace {

// Opening and closing take a leader no more than the rest of a step.
constexpr absl::Duration kLeaderTimeout = absl::Seconds(30);

// Gives back the slot of a session whose creator does not know of it.
void Abandon(const std::shared_ptr<Leader>& leader, const std::string& id) {
  LeaderCall call(leader, kLeaderTimeout);
  worker::v1::CloseSessionRequest request;
  request.set_session_id(id);
  worker::v1::CloseSessionResponse response;
  // Where this fails, there is no such session or no such group.
  call.stub()->CloseSession(call.context(), request, &response);
}

}  // namespace

grpc::Status SessionService::CreateSession(grpc::ServerContext* context,
                                           const v1::CreateSessionRequest* request,
                                           v1::CreateSessionResponse* response) {
  RequestRecord record(metrics_, "CreateSession", context);
  return record.End(Create(*context, *request, response->mutable_session()));
}

grpc::Status SessionService::Create(const grpc::ServerContext& context,
                                    const v1::CreateSessionRequest& request, v1::Session* session) {
  auto leader = router_->ForNewSession();
  if (!leader.ok()) return ToGrpcStatus(leader.status());
  const std::string id = NewSessionId();
  worker::v1::OpenSessionRequest open;
  open.set_session_id(id);
  *open.mutable_cascade() = request.cascade();
  worker::v1::OpenSessionResponse opened;
  // Not cancelled with the caller's call: of a call that was cut off nobody knows what it did.
  LeaderCall call(*leader, kLeaderTimeout);
  const grpc::Status status = call.Result(call.stub()->OpenSession(call.context(), open, &opened));
  if (!status.ok()) return status;
  if (context.IsCancelled()) {
    Abandon(*leader, id);
    return grpc::Status(grpc::StatusCode::CANCELLED, "the call was cancelled");
  }
  *session = std::move(*opened.mutable_session());
  return ToGrpcStatus(router_->AddSession(id, **leader));
}

grpc::Status SessionService::GetSession(grpc::ServerContext* context,
                                        const v1::GetSessionRequest* request,
                                        v1::GetSessionResponse* response) {
  RequestRecord record(metrics_, "GetSession", context);
  return record.End(Describe(*context, request->session_id(), response->mutable_session()));
}

grpc::Status SessionService::Describe(const grpc::ServerContext& context, const std::string& id,
                                      v1::Session* session) {
  auto leader = router_->ForSession(id);
  if (!leader.ok()) return ToGrpcStatus(leader.status());
  LeaderCall call(*std::move(leader), context);
  worker::v1::DescribeSessionRequest request;
  request.set_session_id(id);
  worker::v1::DescribeSessionResponse response;
  const grpc::Status status = call.stub()->DescribeSession(call.context(), request, &response);
  *session = std::move(*response.mutable_session());
  return call.Result(status);
}

grpc::Status SessionService::ListSessions(grpc::ServerContext* context,
                                          const v1::ListSessionsRequest* request,
                                          v1::ListSessionsResponse* response) {
  RequestRecord record(metrics_, "ListSessions", context);
  return record.End(List(*context, *request, response));
}

grpc::Status SessionService::List(const grpc::ServerContext& context,
                                  const v1::ListSessionsRequest& request,
                                  v1::ListSessionsResponse* response) {
  auto page = router_->ListSessions(request.page_size(), request.page_token());
  if (!page.ok()) return ToGrpcStatus(page.status());
  for (const SessionPlace& place : page->sessions) {
    v1::Session session;
    const grpc::Status status = Describe(context, place.id, &session);
    // Deleted, or lost with its group, since the page was made.
    if (status.error_code() == grpc::StatusCode::NOT_FOUND ||
        status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      continue;
    }
    if (!status.ok()) return status;
    *response->add_sessions() = std::move(session);
  }
  response->set_next_page_token(page->next_page_token);
  return grpc::Status::OK;
}

grpc::Status SessionService::DeleteSession(grpc::ServerContext* context,
                                           const v1::DeleteSessionRequest* request,
                                           v1::DeleteSessionResponse*) {
  RequestRecord record(metrics_, "DeleteSession", context);
  return record.End(Delete(*context, request->session_id()));
}

grpc::Status SessionService::Delete(const grpc::ServerContext& context, const std::string& id) {
  const auto leader = router_->ForSession(id);
  if (leader.ok()) {
    LeaderCall call(*leader, context);
    worker::v1::CloseSessionRequest request;
    request.set_session_id(id);
    worker::v1::CloseSessionResponse response;
    const grpc::Status status =
        call.Result(call.stub()->CloseSession(call.context(), request, &response));
    // Where its cache is gone already, forgetting it is all that is left to do.
    if (!status.ok() && status.error_code() != grpc::StatusCode::NOT_FOUND) return status;
  } else if (!absl::IsUnavailable(leader.status())) {
    return ToGrpcStatus(leader.status());
  }
  return ToGrpcStatus(router_->RemoveSession(id));
}

grpc::Status SessionService::InspectSession(
    grpc::ServerContext* context, const v1::InspectSessionRequest* request,
    grpc::ServerWriter<v1::InspectSessionResponse>* writer) {
  RequestRecord record(metrics_, "InspectSession", context);
  return record.End(Inspect(*context, *request, writer));
}

grpc::Status SessionService::Inspect(const grpc::ServerContext& context,
                                     const v1::InspectSessionRequest& request,
                                     grpc::ServerWriter<v1::InspectSessionResponse>* writer) {
  auto leader = router_->ForSession(request.session_id());
  if (!leader.ok()) return ToGrpcStatus(leader.status());
  LeaderCall call(*std::move(leader), context);
  worker::v1::InspectRequest inspect;
  *inspect.mutable_request() = request;
  const auto reader = call.stub()->Inspect(call.context(), inspect);
  return ForwardStream<worker::v1::InspectResponse>(&call, reader.get(), writer);
}

}  // namespace weir
