#include "worker/service/worker_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/health_client.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"
#include "tests/worker/service/fake_coordinator.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// A small random model that 1 or 3 ranks can share.
std::string ModelPath() {
  static const std::string* const path = [] {
    const char* folder = std::getenv("TEST_TMPDIR");
    auto* const name = new std::string(
        absl::StrCat(folder == nullptr ? "/tmp" : folder, "/worker_server_test.gguf"));
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
std::string LongText() {
  std::string text;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&text, "the hen ", i * i % 97, " and \u20ac; ");
  return text;
}

class WorkerServerTest : public ::testing::Test {
 protected:
  WorkerOptions Options() {
    WorkerOptions options;
    options.model_path = ModelPath();
    options.max_sessions = 2;
    options.cascade = {.sinks = 4, .slots = 64, .sub_caches = 2, .stride = 16};
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

  FakeCoordinator coordinator_;
  std::vector<std::unique_ptr<Metrics>> metrics_;
  std::vector<std::unique_ptr<WorkerServer>> workers_;
  std::unique_ptr<worker::v1::WorkerService::Stub> stub_;
};

TEST_F(WorkerServerTest, BrokenAppendsGiveTheSessionOfAnUnbrokenOne) {
  StartGroup(1);
  const std::string text = LongText();
  Open("whole");
  ASSERT_TRUE(Append("whole", text, 0, text.size(), true).ok());
  Open("broken");
  for (const size_t to : {101, 400, 401, 777}) {
    const size_t from = Describe("broken").appended_bytes();
    EXPECT_EQ(Append("broken", text, from / 2, to, false).error_code(),
              grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(Describe("broken").append_open());
  }
  const size_t from = Describe("broken").appended_bytes();
  ASSERT_TRUE(Append("broken", text, from, text.size(), true).ok());
  EXPECT_EQ(Describe("broken").tokens_seen(), Describe("whole").tokens_seen());
  EXPECT_GT(Describe("whole").tokens_seen(), 4 * Describe("whole").tokens_cached());
  EXPECT_EQ(InspectAll("broken"), InspectAll("whole"));
  EXPECT_EQ(Generate(Twenty("broken")).tokens, Generate(Twenty("whole")).tokens);
}

TEST_F(WorkerServerTest, ACallOfItsOwnEqualsASession) {
  StartGroup(1);
  v1::GenerateRequest request = Twenty("");
  request.set_text(LongText());
  const Generated own = Generate(request);
  ASSERT_TRUE(own.status.ok()) << own.status.error_message();
  EXPECT_EQ(own.tokens.size(), 20u);
  EXPECT_EQ(own.reason, v1::FINISH_REASON_MAX_TOKENS);
  Open("s");
  request.set_session_id("s");
  EXPECT_EQ(Generate(request).tokens, own.tokens);
  // Every slot is free again, many times over.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Generate(Twenty("s")).tokens.size(), 20u);
}

TEST_F(WorkerServerTest, AnEmptySessionHasNothingToGenerateFrom) {
  StartGroup(1);
  Open("s");
  EXPECT_EQ(Generate(Twenty("s")).status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  v1::GenerateRequest chat = Twenty("s");
  v1::ChatMessage* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello");
  EXPECT_TRUE(Generate(chat).status.ok());
  EXPECT_EQ(Generate(chat).tokens.size(), 20u);
}

TEST_F(WorkerServerTest, ALongGenerationEndsWhenItsSessionIsDeleted) {
  StartGroup(1);
  Open("s");
  v1::GenerateRequest request = Twenty("s");
  request.set_text("the hen");
  request.set_max_tokens(0);
  Generated generated;
  std::thread caller([&] { generated = Generate(request); });
  while (Describe("s").tokens_seen() < 50) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext context;
  worker::v1::CloseSessionRequest close;
  close.set_session_id("s");
  worker::v1::CloseSessionResponse closed;
  EXPECT_TRUE(stub_->CloseSession(&context, close, &closed).ok());
  caller.join();
  EXPECT_EQ(generated.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_GE(generated.tokens.size(), 20u);
}

TEST_F(WorkerServerTest, ThreeRanksGenerateWhatOneDoes) {
  v1::GenerateRequest request = Twenty("");
  request.set_text(LongText());
  StartGroup(1);
  const Generated one = Generate(request);
  workers_.clear();
  ASSERT_TRUE(coordinator_.WaitForNobody());

  StartGroup(3);
  const Generated three = Generate(request);
  ASSERT_TRUE(three.status.ok()) << three.status.error_message();
  EXPECT_EQ(three.tokens, one.tokens);

  // Others than the leader take no calls and say who does.
  auto follower = worker::v1::WorkerService::NewStub(Channel(1));
  grpc::ClientContext context;
  worker::v1::DescribeModelResponse response;
  const grpc::Status status = follower->DescribeModel(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("rank 0 takes the calls"));
}

TEST_F(WorkerServerTest, AGroupThatLostAWorkerFormsAgain) {
  StartGroup(3);
  Open("s");
  v1::GenerateRequest request = Twenty("s");
  request.set_text("the hen");
  request.set_max_tokens(0);
  Generated generated;
  std::thread caller([&] { generated = Generate(request); });
  while (Describe("s").tokens_seen() < 20) absl::SleepFor(absl::Milliseconds(1));

  workers_.pop_back();  // rank 2
  caller.join();
  EXPECT_EQ(generated.status.error_code(), grpc::StatusCode::UNAVAILABLE)
      << generated.status.error_message();
  coordinator_.EndAll(grpc::Status(grpc::StatusCode::UNAVAILABLE, "rank 2 was lost"));

  WorkerOptions options = Options();
  options.tensor_parallel = 3;
  absl::StatusOr<std::unique_ptr<WorkerServer>> worker =
      WorkerServer::Start(options, metrics_.back().get());
  ASSERT_TRUE(worker.ok()) << worker.status();
  workers_.push_back(*std::move(worker));
  ASSERT_TRUE(coordinator_.WaitForReady(3));
  request.clear_session_id();
  request.set_max_tokens(5);
  EXPECT_EQ(Generate(request).tokens.size(), 5u);
}

TEST_F(WorkerServerTest, HealthFollowsTheGroup) {
  StartGroup(1);
  EXPECT_TRUE(IsServing(Channel(0), ""));
  EXPECT_TRUE(IsServing(Channel(0), "weir.worker.v1.WorkerService"));
  coordinator_.Refuse(grpc::Status(grpc::StatusCode::UNAVAILABLE, "later"));
  coordinator_.EndAll(grpc::Status(grpc::StatusCode::UNAVAILABLE, "over"));
  while (IsServing(Channel(0), "")) absl::SleepFor(absl::Milliseconds(5));
  coordinator_.Refuse(grpc::Status::OK);
  ASSERT_TRUE(coordinator_.WaitForReady(1));
  EXPECT_TRUE(IsServing(Channel(0), ""));
}

TEST_F(WorkerServerTest, ItDescribesItsModel) {
  StartGroup(1);
  grpc::ClientContext context;
  worker::v1::DescribeModelResponse response;
  ASSERT_TRUE(stub_->DescribeModel(&context, {}, &response).ok());
  const v1::Model& model = response.model();
  EXPECT_FALSE(model.name().empty());
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.layers(), 2);
  EXPECT_EQ(model.heads(), 6);
  EXPECT_EQ(model.kv_heads(), 3);
  EXPECT_EQ(model.head_dim(), 16);
  EXPECT_EQ(model.vocabulary(), kLeastVocabulary);
  EXPECT_EQ(model.positions(), 4096);
  EXPECT_EQ(model.cascade().slots(), 64);
  EXPECT_EQ(model.session_slots(), 2);
  EXPECT_GT(model.sessions_that_fit(), 2);
  EXPECT_EQ(model.tensor_parallel(), 1);
  EXPECT_THAT(model.device(), HasSubstr("cpu"));
  // 2 layers, 3 KV heads, 68 slots of a key and a value of 16 floats, a score and an index.
  EXPECT_EQ(model.session_bytes(), 2 * 3 * 68 * (2 * 16 * 4 + 4 + 8));
  Open("s");
  EXPECT_EQ(Describe("s").cache_bytes(), model.session_bytes());
}

TEST_F(WorkerServerTest, RanksOfOneHostShareItsMemory) {
  const auto describe = [&](int ranks) {
    StartGroup(ranks);
    grpc::ClientContext context;
    worker::v1::DescribeModelResponse response;
    EXPECT_TRUE(stub_->DescribeModel(&context, {}, &response).ok());
    for (const std::unique_ptr<WorkerServer>& worker : workers_) worker->Stop(absl::ZeroDuration());
    workers_.clear();
    return response.model();
  };
  const v1::Model one = describe(1);
  const v1::Model three = describe(3);
  EXPECT_EQ(three.session_bytes(), one.session_bytes());
  // But for what else took or gave back memory meanwhile.
  EXPECT_LT(three.sessions_that_fit(), 1.5 * one.sessions_that_fit());
  EXPECT_GT(three.sessions_that_fit(), one.sessions_that_fit() / 1.5);
}

TEST_F(WorkerServerTest, ARequestThatIsTooLongIsRefused) {
  StartGroup(1);
  v1::GenerateRequest request = Twenty("");
  request.set_text(std::string(WorkerServer::kMaxRequestBytes + 1, 'x'));
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(WorkerServerTest, MetricsCountWhatTheEngineDoes) {
  StartGroup(1);
  v1::GenerateRequest request = Twenty("");
  request.set_text("abcdef");
  ASSERT_TRUE(Generate(request).status.ok());
  const auto counted = [this] {
    const std::string text = metrics_[0]->Serialize();
    return text.find("weir_engine_prompt_tokens_total 6") != std::string::npos &&
           text.find("weir_engine_generated_tokens_total 20") != std::string::npos &&
           text.find("weir_engine_time_to_first_token_seconds_count 1") != std::string::npos;
  };
  while (!counted()) absl::SleepFor(absl::Milliseconds(10));
}

TEST_F(WorkerServerTest, WrongOptionsAreToldInASentence) {
  Metrics metrics("test");
  const auto error = [&metrics](const WorkerOptions& options) {
    return WorkerServer::Start(options, &metrics).status();
  };
  WorkerOptions options = Options();
  options.tensor_parallel = 2;
  EXPECT_EQ(error(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(error(options).message()), HasSubstr("2"));

  options = Options();
  options.cascade.slots = 8192;
  EXPECT_EQ(error(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(error(options).message()), HasSubstr("4096"));

  options = Options();
  options.max_sessions = 0;
  EXPECT_EQ(error(options).code(), absl::StatusCode::kInvalidArgument);

  options = Options();
  options.preferred_rank = 1;
  EXPECT_EQ(error(options).code(), absl::StatusCode::kInvalidArgument);

  options = Options();
  options.listen_address = "0.0.0.0:0";
  EXPECT_EQ(error(options).code(), absl::StatusCode::kInvalidArgument);
  options.advertised_host = "127.0.0.1";
  EXPECT_TRUE(error(options).ok());

  options = Options();
  options.model_path = "/nowhere/model.gguf";
  EXPECT_EQ(error(options).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(error(options).message()), HasSubstr("/nowhere/model.gguf"));

  options = Options();
  options.device = "abacus";
  options.preferred_rank = 0;
  EXPECT_THAT(std::string(error(options).message()), HasSubstr("abacus"));
}

TEST_F(WorkerServerTest, AnAddressInUseIsNamed) {
  StartGroup(1);
  Metrics metrics("test");
  WorkerOptions options = Options();
  options.listen_address = absl::StrCat("127.0.0.1:", workers_[0]->port());
  const absl::Status status = WorkerServer::Start(options, &metrics).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr(options.listen_address));
}

TEST_F(WorkerServerTest, StopWaitsForCallsInProgress) {
  StartGroup(1);
  Open("s");
  v1::GenerateRequest request = Twenty("s");
  request.set_text("the hen");
  request.set_max_tokens(2000);
  Generated generated;
  std::thread caller([&] { generated = Generate(request); });
  while (!Describe("s").running()) absl::SleepFor(absl::Milliseconds(1));
  workers_[0]->Stop(absl::Minutes(2));
  caller.join();
  EXPECT_TRUE(generated.status.ok()) << generated.status.error_message();
  EXPECT_EQ(generated.tokens.size(), 2000u);
  EXPECT_TRUE(coordinator_.WaitForNobody());
}

TEST_F(WorkerServerTest, StopEndsCallsThatTakeTooLong) {
  StartGroup(1);
  Open("s");
  v1::GenerateRequest request = Twenty("s");
  request.set_text("the hen");
  request.set_max_tokens(0);
  Generated generated;
  std::thread caller([&] { generated = Generate(request); });
  while (!Describe("s").running()) absl::SleepFor(absl::Milliseconds(1));
  workers_[0]->Stop(absl::Milliseconds(50));
  caller.join();
  EXPECT_FALSE(generated.status.ok());
}

}  // namespace
}  // namespace weir
