#ifndef WEIR_TESTS_WORKER_SERVICE_WORKER_SERVER_FIXTURE_H_
#define WEIR_TESTS_WORKER_SERVICE_WORKER_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "monitoring/metrics.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"
#include "tests/worker/service/fake_coordinator.h"
#include "weir/worker/v1/worker.grpc.pb.h"
#include "worker/service/worker_server.h"

namespace weir {

// A small random model that 1 or 3 ranks can share.
inline std::string ModelPath() {
  static const std::string* const path = [] {
    const char* folder = std::getenv("TEST_TMPDIR");
    auto* const name = new std::string(
        absl::StrCat(folder == nullptr ? "/tmp" : folder, "/worker_server_fixture.gguf"));
    const NaiveLlamaConfig config = {.layers = 2,
                                     .hidden = 96,
                                     .heads = 6,
                                     .kv_heads = 3,
                                     .head_dim = 16,
                                     .ffn = 192,
                                     .vocabulary = kLeastVocabulary};
    MakeLlamaGguf(MakeRandomModel(config, 7)).WriteFile(*name);
    return name;
  }();
  return *path;
}

// A text of many chunks and several times the cache.
inline std::string LongText() {
  std::string text;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&text, "the hen ", i * i % 97, " and \u20ac; ");
  return text;
}

// Workers with a real engine, and calls of their leader as a coordinator makes them.
class WorkerServerTest : public ::testing::Test {
 protected:
  WorkerOptions Options() {
    WorkerOptions options;
    options.model_path = ModelPath();
    options.max_sessions = 2;
    options.cascade = cascade_;
    options.coordinator_address = coordinator_.address();
    options.version = "test";
    return options;
  }

  // Starts `count` workers and waits until they are a group.
  void StartGroup(int count) {
    for (int i = 0; i < count; ++i) {
      WorkerOptions options = Options();
      options.tensor_parallel = count;
      options.preferred_rank = i;
      metrics_.push_back(std::make_unique<Metrics>("test"));
      absl::StatusOr<std::unique_ptr<WorkerServer>> worker =
          WorkerServer::Start(options, metrics_.back().get());
      ASSERT_TRUE(worker.ok()) << worker.status();
      workers_.push_back(*std::move(worker));
    }
    ASSERT_TRUE(coordinator_.WaitForReady(count));
    stub_ = worker::v1::WorkerService::NewStub(Channel(0));
  }

  std::shared_ptr<grpc::Channel> Channel(int worker) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", workers_[worker]->port()),
                               grpc::InsecureChannelCredentials());
  }

  void Open(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::OpenSessionRequest request;
    request.set_session_id(id);
    worker::v1::OpenSessionResponse response;
    const grpc::Status status = stub_->OpenSession(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  v1::Session Describe(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::DescribeSessionRequest request;
    request.set_session_id(id);
    worker::v1::DescribeSessionResponse response;
    EXPECT_TRUE(stub_->DescribeSession(&context, request, &response).ok());
    return response.session();
  }

  // Appends text[from, to) in pieces of 37 bytes; `whole`: closes the stream, else breaks it once
  // the session has received all.
  grpc::Status Append(const std::string& id, const std::string& text, size_t from, size_t to,
                      bool whole) {
    grpc::ClientContext context;
    worker::v1::AppendResponse response;
    auto writer = stub_->Append(&context, &response);
    for (size_t at = from; at < to; at += 37) {
      worker::v1::AppendRequest request;
      request.mutable_request()->set_session_id(id);
      request.mutable_request()->set_offset(static_cast<int64_t>(at));
      request.mutable_request()->set_text(text.substr(at, std::min<size_t>(37, to - at)));
      request.mutable_request()->set_end_of_text(whole && at + 37 >= to);
      writer->Write(request);
    }
    if (whole) {
      writer->WritesDone();
    } else {
      // A character that is cut counts when it is whole.
      while (Describe(id).appended_bytes() + 3 < static_cast<int64_t>(to)) {
        absl::SleepFor(absl::Milliseconds(1));
      }
      context.TryCancel();
    }
    const grpc::Status status = writer->Finish();
    while (!whole && Describe(id).running()) absl::SleepFor(absl::Milliseconds(1));
    return status;
  }

  struct Generated {
    grpc::Status status;
    std::vector<int32_t> tokens;
    std::string text;
    v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
  };
  Generated Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    worker::v1::GenerateRequest wrapped;
    *wrapped.mutable_request() = request;
    auto reader = stub_->Generate(&context, wrapped);
    Generated generated;
    worker::v1::GenerateResponse response;
    while (reader->Read(&response)) {
      generated.text += response.response().text();
      for (const v1::GeneratedToken& token : response.response().tokens()) {
        generated.tokens.push_back(token.token().token());
      }
      generated.reason = response.response().finish_reason();
    }
    generated.status = reader->Finish();
    return generated;
  }

  // 20 greedy tokens.
  static v1::GenerateRequest Twenty(const std::string& id) {
    v1::GenerateRequest request;
    request.set_session_id(id);
    request.set_max_tokens(20);
    request.set_ignore_end_token(true);
    return request;
  }

  std::string InspectAll(const std::string& id) {
    grpc::ClientContext context;
    worker::v1::InspectRequest request;
    request.mutable_request()->set_session_id(id);
    auto reader = stub_->Inspect(&context, request);
    std::string all;
    worker::v1::InspectResponse response;
    while (reader->Read(&response)) all += response.SerializeAsString();
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return all;
  }

  CascadeConfig cascade_ = {.sinks = 4, .slots = 64, .sub_caches = 2, .stride = 16};  // of workers
  FakeCoordinator coordinator_;
  std::vector<std::unique_ptr<Metrics>> metrics_;
  std::vector<std::unique_ptr<WorkerServer>> workers_;
  std::unique_ptr<worker::v1::WorkerService::Stub> stub_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_SERVICE_WORKER_SERVER_FIXTURE_H_
