#ifndef WEIR_TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_
#define WEIR_TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/coordinator_server.h"
#include "monitoring/metrics.h"
#include "tests/coordinator/fake_worker.h"
#include "weir/v1/generation.grpc.pb.h"
#include "weir/v1/model.grpc.pb.h"
#include "weir/v1/session.grpc.pb.h"

namespace weir {

// Nothing in these tests takes this long unless it hangs.
inline constexpr absl::Duration kLong = absl::Seconds(20);

// A coordinator on loopback ports, and clients of it.
class CoordinatorFixture : public testing::Test {
 protected:
  static constexpr int kMaxCalls = 20;

  CoordinatorFixture() {
    auto coordinator = CoordinatorServer::Start({.listen_address = "127.0.0.1:0",
                                                 .group_listen_address = "127.0.0.1:0",
                                                 .version = "1.0",
                                                 .stall_timeout = absl::Seconds(2),
                                                 .max_calls = kMaxCalls},
                                                &metrics_);
    EXPECT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = *std::move(coordinator);
    channel_ = Channel(coordinator_->port());
    group_channel_ = Channel(coordinator_->group_port());
    sessions_ = v1::SessionService::NewStub(channel_);
    generation_ = v1::GenerationService::NewStub(channel_);
    models_ = v1::ModelService::NewStub(channel_);
  }

  static std::shared_ptr<grpc::Channel> Channel(int port) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                               grpc::InsecureChannelCredentials());
  }

  // Starts `size` workers that form a ready group, after those that exist.
  void AddGroup(int size) {
    const size_t first = workers_.size();
    for (int i = 0; i < size; ++i) {
      workers_.push_back(std::make_unique<FakeWorker>());
      worker::v1::Registration registration = workers_.back()->Registration(size);
      registration.set_preferred_rank(i);
      workers_.back()->Join(group_channel_, registration);
    }
    for (size_t i = first; i < workers_.size(); ++i) {
      ASSERT_TRUE(workers_[i]->WaitForAssignment().has_value());
      workers_[i]->Run();
    }
    WaitForModels(1);
  }

  // Blocks until calls are served (1) or not (0).
  void WaitForModels(int models) {
    const absl::Time end = absl::Now() + kLong;
    while (ListModels().models_size() != models) {
      ASSERT_LT(absl::Now(), end) << coordinator_->Describe();
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  v1::ListModelsResponse ListModels() {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    EXPECT_TRUE(models_->ListModels(&context, v1::ListModelsRequest(), &response).ok());
    return response;
  }

  grpc::Status CreateSession(std::string* id) {
    grpc::ClientContext context;
    v1::CreateSessionResponse response;
    const grpc::Status status =
        sessions_->CreateSession(&context, v1::CreateSessionRequest(), &response);
    *id = response.session().id();
    return status;
  }

  std::string NewSession() {
    std::string id;
    const grpc::Status status = CreateSession(&id);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return id;
  }

  grpc::Status GetSession(const std::string& id) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_session_id(id);
    v1::GetSessionResponse response;
    return sessions_->GetSession(&context, request, &response);
  }

  grpc::Status DeleteSession(const std::string& id) {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_session_id(id);
    v1::DeleteSessionResponse response;
    return sessions_->DeleteSession(&context, request, &response);
  }

  // The ids on all pages.
  std::vector<std::string> ListSessions(int page_size) {
    std::vector<std::string> ids;
    v1::ListSessionsRequest request;
    request.set_page_size(page_size);
    do {
      grpc::ClientContext context;
      v1::ListSessionsResponse response;
      const grpc::Status status = sessions_->ListSessions(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      for (const v1::Session& session : response.sessions()) ids.push_back(session.id());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return ids;
  }

  grpc::Status Generate(grpc::ClientContext* context, const v1::GenerateRequest& request,
                        std::string* text = nullptr) {
    const auto reader = generation_->Generate(context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (text != nullptr) *text += response.text();
    }
    return reader->Finish();
  }

  grpc::Status Generate(const std::string& session, const std::string& text) {
    grpc::ClientContext context;
    v1::GenerateRequest request;
    request.set_session_id(session);
    request.set_text(text);
    return Generate(&context, request);
  }

  // The answer of grpc.health.v1 for `service`: whether it is SERVING; nothing if it is not known.
  // Its messages are a string in field 1, and an enum in field 1 of which 1 is SERVING.
  std::optional<bool> Health(const std::string& service) {
    std::string request;
    if (!service.empty()) {
      request = absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
    }
    const grpc::Slice slice(request);
    const grpc::ByteBuffer buffer(&slice, 1);
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call =
        stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", buffer, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return std::nullopt;
    EXPECT_TRUE(status.ok()) << status.error_message();
    grpc::Slice answer;
    EXPECT_TRUE(response.DumpToSingleSlice(&answer).ok());
    return std::string(answer.begin(), answer.end()) == "\x08\x01";
  }

  Metrics metrics_{"1.0"};
  std::unique_ptr<CoordinatorServer> coordinator_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> group_channel_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
};

}  // namespace weir

#endif  // WEIR_TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_
