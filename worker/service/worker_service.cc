#include "worker/service/worker_service.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "proto/grpc_status.h"
#include "worker/service/append.h"
#include "worker/service/generate.h"
#include "worker/service/score.h"
#include "worker/service/sessions.h"
#include "worker/service/tokenize.h"

namespace weir {
namespace {

// Moves a result into the field of a response.
template <typename Value>
absl::Status Answer(absl::StatusOr<Value> result, Value* field) {
  if (result.ok()) *field = *std::move(result);
  return result.status();
}

// A function that streams public responses as those of this service, which wrap them.
template <typename Response, typename Public>
std::function<bool(const Public&)> Writing(grpc::ServerWriter<Response>* writer) {
  return [writer](const Public& message) {
    Response response;
    *response.mutable_response() = message;
    return writer->Write(response);
  };
}

// What threads other than its own see of a call: its context, for as long as there is one.
class SharedContext {
 public:
  explicit SharedContext(grpc::ServerContext* context) : state_(std::make_shared<State>()) {
    absl::MutexLock lock(&state_->mutex);
    state_->context = context;
  }
  ~SharedContext() {
    absl::MutexLock lock(&state_->mutex);
    state_->context = nullptr;
  }
  SharedContext(const SharedContext&) = delete;
  SharedContext& operator=(const SharedContext&) = delete;

  // May be asked at any time, also after the end of the call, which counts as cancelled.
  std::function<bool()> cancelled() const {
    return [state = state_] {
      absl::MutexLock lock(&state->mutex);
      return state->context == nullptr || state->context->IsCancelled();
    };
  }

 private:
  struct State {
    absl::Mutex mutex;
    grpc::ServerContext* context ABSL_GUARDED_BY(mutex) = nullptr;
  };
  const std::shared_ptr<State> state_;
};

class GrpcAppendStream : public AppendStream {
 public:
  GrpcAppendStream(grpc::ServerContext* context,
                   grpc::ServerReader<worker::v1::AppendRequest>* reader)
      : context_(context), shared_context_(context), reader_(reader) {}

  bool Read(v1::AppendRequest* request) override {
    worker::v1::AppendRequest message;
    if (!reader_->Read(&message)) return false;
    *request = std::move(*message.mutable_request());
    return true;
  }
  std::function<bool()> cancelled() const override { return shared_context_.cancelled(); }
  void Cancel() override { context_->TryCancel(); }

 private:
  grpc::ServerContext* const context_;
  const SharedContext shared_context_;
  grpc::ServerReader<worker::v1::AppendRequest>* const reader_;
};

}  // namespace

void WorkerService::Lead(LeaderState* leader) {
  absl::MutexLock lock(&mutex_);
  leader_ = leader;
}

void WorkerService::Withdraw(const absl::Status& reason, absl::Duration grace) {
  absl::MutexLock lock(&mutex_);
  leader_ = nullptr;
  no_leader_ = reason;
  const auto none_running = [this]()
                                ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_.empty(); };
  if (mutex_.AwaitWithTimeout(absl::Condition(&none_running), grace)) return;
  for (grpc::ServerContext* context : running_) context->TryCancel();
  mutex_.Await(absl::Condition(&none_running));
}

grpc::Status WorkerService::Serve(grpc::ServerContext* context,
                                  const std::function<absl::Status(LeaderState& leader)>& call) {
  LeaderState* leader = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (leader_ == nullptr) return ToGrpcStatus(no_leader_);
    leader = leader_;
    running_.insert(context);
  }
  const absl::Status status = call(*leader);
  absl::MutexLock lock(&mutex_);
  running_.erase(context);
  return ToGrpcStatus(status);
}

grpc::Status WorkerService::OpenSession(grpc::ServerContext* context,
                                        const worker::v1::OpenSessionRequest* request,
                                        worker::v1::OpenSessionResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    return Answer(weir::OpenSession(leader, request->session_id(), request->cascade()),
                  response->mutable_session());
  });
}

grpc::Status WorkerService::DescribeSession(grpc::ServerContext* context,
                                            const worker::v1::DescribeSessionRequest* request,
                                            worker::v1::DescribeSessionResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    return Answer(weir::DescribeSession(leader, request->session_id()),
                  response->mutable_session());
  });
}

grpc::Status WorkerService::CloseSession(grpc::ServerContext* context,
                                         const worker::v1::CloseSessionRequest* request,
                                         worker::v1::CloseSessionResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    return weir::CloseSession(leader, request->session_id());
  });
}

grpc::Status WorkerService::Inspect(grpc::ServerContext* context,
                                    const worker::v1::InspectRequest* request,
                                    grpc::ServerWriter<worker::v1::InspectResponse>* writer) {
  return Serve(context, [&](LeaderState& leader) {
    return InspectSession(leader, request->request(),
                          Writing<worker::v1::InspectResponse, v1::InspectSessionResponse>(writer));
  });
}

grpc::Status WorkerService::Append(grpc::ServerContext* context,
                                   grpc::ServerReader<worker::v1::AppendRequest>* reader,
                                   worker::v1::AppendResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    GrpcAppendStream stream(context, reader);
    return weir::Append(leader, stream, response->mutable_response());
  });
}

grpc::Status WorkerService::Generate(grpc::ServerContext* context,
                                     const worker::v1::GenerateRequest* request,
                                     grpc::ServerWriter<worker::v1::GenerateResponse>* writer) {
  return Serve(context, [&](LeaderState& leader) {
    const SharedContext shared_context(context);
    return weir::Generate(leader, request->request(), shared_context.cancelled(),
                          Writing<worker::v1::GenerateResponse, v1::GenerateResponse>(writer));
  });
}

grpc::Status WorkerService::Score(grpc::ServerContext* context,
                                  const worker::v1::ScoreRequest* request,
                                  grpc::ServerWriter<worker::v1::ScoreResponse>* writer) {
  return Serve(context, [&](LeaderState& leader) {
    const SharedContext shared_context(context);
    return weir::Score(leader, request->request(), shared_context.cancelled(),
                       Writing<worker::v1::ScoreResponse, v1::ScoreResponse>(writer));
  });
}

grpc::Status WorkerService::Tokenize(grpc::ServerContext* context,
                                     const worker::v1::TokenizeRequest* request,
                                     worker::v1::TokenizeResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    return Answer(weir::Tokenize(leader.tokenizer, request->request()),
                  response->mutable_response());
  });
}

grpc::Status WorkerService::Detokenize(grpc::ServerContext* context,
                                       const worker::v1::DetokenizeRequest* request,
                                       worker::v1::DetokenizeResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    return Answer(weir::Detokenize(leader.tokenizer, request->request()),
                  response->mutable_response());
  });
}

grpc::Status WorkerService::DescribeModel(grpc::ServerContext* context,
                                          const worker::v1::DescribeModelRequest* request,
                                          worker::v1::DescribeModelResponse* response) {
  return Serve(context, [&](LeaderState& leader) {
    *response->mutable_model() = weir::DescribeModel(leader);
    return absl::OkStatus();
  });
}

}  // namespace weir
