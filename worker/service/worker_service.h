#ifndef WEIR_WORKER_SERVICE_WORKER_SERVICE_H_
#define WEIR_WORKER_SERVICE_WORKER_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/worker/v1/worker.grpc.pb.h"
#include "worker/service/leader_state.h"

namespace weir {

// WorkerService over gRPC: hands calls to whatever leader there is. Without one (the group is not
// complete, was lost, or another worker leads it) every call gets UNAVAILABLE and the reason.
// Thread-safe.
class WorkerService final : public worker::v1::WorkerService::Service {
 public:
  // `leader` serves from now on; it must live until Withdraw returns.
  void Lead(LeaderState* leader);

  // No leader from now on, because of `reason` (UNAVAILABLE). Returns when no call uses the leader
  // any more: those that have not ended by themselves after `grace` are cancelled. Its engine
  // should have ended, so that they do.
  void Withdraw(const absl::Status& reason, absl::Duration grace);

  grpc::Status OpenSession(grpc::ServerContext* context,
                           const worker::v1::OpenSessionRequest* request,
                           worker::v1::OpenSessionResponse* response) override;
  grpc::Status DescribeSession(grpc::ServerContext* context,
                               const worker::v1::DescribeSessionRequest* request,
                               worker::v1::DescribeSessionResponse* response) override;
  grpc::Status CloseSession(grpc::ServerContext* context,
                            const worker::v1::CloseSessionRequest* request,
                            worker::v1::CloseSessionResponse* response) override;
  grpc::Status Inspect(grpc::ServerContext* context, const worker::v1::InspectRequest* request,
                       grpc::ServerWriter<worker::v1::InspectResponse>* writer) override;
  grpc::Status Append(grpc::ServerContext* context,
                      grpc::ServerReader<worker::v1::AppendRequest>* reader,
                      worker::v1::AppendResponse* response) override;
  grpc::Status Generate(grpc::ServerContext* context, const worker::v1::GenerateRequest* request,
                        grpc::ServerWriter<worker::v1::GenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const worker::v1::ScoreRequest* request,
                     grpc::ServerWriter<worker::v1::ScoreResponse>* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const worker::v1::TokenizeRequest* request,
                        worker::v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context,
                          const worker::v1::DetokenizeRequest* request,
                          worker::v1::DetokenizeResponse* response) override;
  grpc::Status DescribeModel(grpc::ServerContext* context,
                             const worker::v1::DescribeModelRequest* request,
                             worker::v1::DescribeModelResponse* response) override;

 private:
  // Runs `call` with the leader, which stays until it returns.
  grpc::Status Serve(grpc::ServerContext* context,
                     const std::function<absl::Status(LeaderState& leader)>& call);

  absl::Mutex mutex_;
  LeaderState* leader_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Status no_leader_ ABSL_GUARDED_BY(mutex_) =
      absl::UnavailableError("the worker is not part of a complete group yet");
  absl::flat_hash_set<grpc::ServerContext*> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_WORKER_SERVICE_H_
