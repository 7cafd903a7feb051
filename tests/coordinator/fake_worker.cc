#include "tests/coordinator/fake_worker.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace weir {
namespace {

grpc::Status NoSession() { return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such session"); }

}  // namespace

grpc::Status FakeWorkerService::OpenSession(grpc::ServerContext*,
                                            const worker::v1::OpenSessionRequest* request,
                                            worker::v1::OpenSessionResponse* response) {
  absl::MutexLock lock(&mutex_);
  if (sessions_.size() == kSessionSlots) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "all 3 session slots are taken");
  }
  sessions_[request->session_id()] = 0;
  response->mutable_session()->set_id(request->session_id());
  *response->mutable_session()->mutable_cascade() = request->cascade();
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::DescribeSession(grpc::ServerContext*,
                                                const worker::v1::DescribeSessionRequest* request,
                                                worker::v1::DescribeSessionResponse* response) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(request->session_id());
  if (found == sessions_.end()) return NoSession();
  response->mutable_session()->set_id(found->first);
  response->mutable_session()->set_appended_bytes(found->second);
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::CloseSession(grpc::ServerContext*,
                                             const worker::v1::CloseSessionRequest* request,
                                             worker::v1::CloseSessionResponse*) {
  absl::MutexLock lock(&mutex_);
  return sessions_.erase(request->session_id()) == 1 ? grpc::Status::OK : NoSession();
}

grpc::Status FakeWorkerService::Inspect(grpc::ServerContext*, const worker::v1::InspectRequest*,
                                        grpc::ServerWriter<worker::v1::InspectResponse>* writer) {
  for (int layer = 0; layer < 2; ++layer) {
    worker::v1::InspectResponse response;
    response.mutable_response()->set_layer(layer);
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::Append(grpc::ServerContext* context,
                                       grpc::ServerReader<worker::v1::AppendRequest>* reader,
                                       worker::v1::AppendResponse* response) {
  worker::v1::AppendRequest request;
  std::string id;
  bool ended = false;
  while (reader->Read(&request)) {
    if (id.empty()) id = request.request().session_id();
    if (request.request().offset() < 0) {
      return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "offset is -1");
    }
    ended = request.request().end_of_text();
    absl::MutexLock lock(&mutex_);
    sessions_[id] += static_cast<int64_t>(request.request().text().size());
  }
  absl::MutexLock lock(&mutex_);
  if (!ended) {
    ++texts_broken_;
    return grpc::Status::CANCELLED;
  }
  ++texts_ended_;
  response->mutable_response()->mutable_session()->set_id(id);
  response->mutable_response()->mutable_session()->set_appended_bytes(sessions_[id]);
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::Generate(grpc::ServerContext* context,
                                         const worker::v1::GenerateRequest* request,
                                         grpc::ServerWriter<worker::v1::GenerateResponse>* writer) {
  if (request->request().text() == "fail") {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "the session has a running call");
  }
  for (int64_t i = 0; i < request->request().max_tokens(); ++i) {
    worker::v1::GenerateResponse response;
    response.mutable_response()->set_text(absl::StrCat(i, " "));
    response.mutable_response()->add_tokens()->mutable_token()->set_token(static_cast<int32_t>(i));
    writer->Write(response);
  }
  if (request->request().text() == "wait") {
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(2));
    absl::MutexLock lock(&mutex_);
    ++cancelled_;
    return grpc::Status::CANCELLED;
  }
  worker::v1::GenerateResponse last;
  last.mutable_response()->set_finish_reason(v1::FINISH_REASON_MAX_TOKENS);
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::Score(grpc::ServerContext*, const worker::v1::ScoreRequest* request,
                                      grpc::ServerWriter<worker::v1::ScoreResponse>* writer) {
  for (const char c : request->request().text()) {
    worker::v1::ScoreResponse response;
    response.mutable_response()->add_tokens()->set_token(c);
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::Tokenize(grpc::ServerContext*,
                                         const worker::v1::TokenizeRequest* request,
                                         worker::v1::TokenizeResponse* response) {
  for (const char c : request->request().text()) response->mutable_response()->add_tokens(c);
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::Detokenize(grpc::ServerContext*,
                                           const worker::v1::DetokenizeRequest* request,
                                           worker::v1::DetokenizeResponse* response) {
  for (const int32_t token : request->request().tokens()) {
    response->mutable_response()->mutable_text()->push_back(static_cast<char>(token));
  }
  return grpc::Status::OK;
}

grpc::Status FakeWorkerService::DescribeModel(grpc::ServerContext*,
                                              const worker::v1::DescribeModelRequest*,
                                              worker::v1::DescribeModelResponse* response) {
  absl::MutexLock lock(&mutex_);
  response->mutable_model()->set_name("fake");
  response->mutable_model()->set_session_slots(kSessionSlots);
  response->mutable_model()->set_sessions_open(static_cast<int>(sessions_.size()));
  return grpc::Status::OK;
}

int FakeWorkerService::sessions_open() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

bool FakeWorkerService::WaitForCancelled(int calls) const {
  absl::MutexLock lock(&mutex_);
  const auto reached = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return cancelled_ >= calls; };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), absl::Seconds(10));
}

int FakeWorkerService::texts_ended() const {
  absl::MutexLock lock(&mutex_);
  return texts_ended_;
}

int FakeWorkerService::texts_broken() const {
  absl::MutexLock lock(&mutex_);
  return texts_broken_;
}

FakeWorker::FakeWorker() {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service_);
  builder.SetMaxReceiveMessageSize(-1);  // The coordinator has looked already.
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeWorker::~FakeWorker() {
  if (context_ != nullptr) {
    Break();
    WaitForEnd();
    reader_.join();
  }
  StopServing();
}

void FakeWorker::StopServing() { server_->Shutdown(std::chrono::system_clock::now()); }

worker::v1::Registration FakeWorker::Registration(int size) const {
  worker::v1::Registration registration;
  registration.set_address(address_);
  registration.set_version("1.0");
  registration.set_model_fingerprint("m1");
  registration.set_tensor_parallel(size);
  registration.set_device("cpu");
  registration.set_settings_fingerprint("s1");
  return registration;
}

void FakeWorker::Join(const std::shared_ptr<grpc::Channel>& coordinator,
                      const worker::v1::Registration& registration) {
  stub_ = worker::v1::GroupService::NewStub(coordinator);
  context_ = std::make_unique<grpc::ClientContext>();
  stream_ = stub_->Join(context_.get());
  worker::v1::JoinRequest request;
  *request.mutable_registration() = registration;
  stream_->Write(request);
  reporter_ = std::thread([this] { Report(); });
  reader_ = std::thread([this] { Read(); });
}

void FakeWorker::Read() {
  worker::v1::JoinResponse response;
  while (stream_->Read(&response)) {
    absl::MutexLock lock(&mutex_);
    assignment_ = response.assignment();
  }
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  reporter_.join();  // No write while the stream is finished.
  const grpc::Status status = stream_->Finish();
  absl::MutexLock lock(&mutex_);
  ended_ = true;
  end_ = status;
}

void FakeWorker::Report() {
  worker::v1::JoinRequest request;
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&closed_), absl::Milliseconds(20));
      if (closed_) return;
      if (!assignment_) continue;
      worker::v1::Report* report = request.mutable_report();
      report->set_generation(assignment_->generation());
      report->set_ready(running_);
      if (running_ && !stalled_) report->set_steps(report->steps() + 1);
    }
    stream_->Write(request);
  }
}

std::optional<worker::v1::Assignment> FakeWorker::WaitForAssignment() {
  absl::MutexLock lock(&mutex_);
  const auto known = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return assignment_.has_value() || ended_;
  };
  mutex_.Await(absl::Condition(&known));
  return assignment_;
}

void FakeWorker::Run() {
  absl::MutexLock lock(&mutex_);
  running_ = true;
}

void FakeWorker::Stall() {
  absl::MutexLock lock(&mutex_);
  stalled_ = true;
}

void FakeWorker::Break() { context_->TryCancel(); }

grpc::Status FakeWorker::WaitForEnd() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&ended_));
  return end_;
}

}  // namespace weir
