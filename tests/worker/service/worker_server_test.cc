// How a worker starts, stands in its group, and stops.

#include "worker/service/worker_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/health_client.h"
#include "tests/worker/service/worker_server_fixture.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

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
  // Caches beside which what each rank has for all ranks' logits is little.
  cascade_.slots = 2048;
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
