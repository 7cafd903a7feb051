// What happens when a part of a running Weir dies, stands still or never comes: calls end with
// UNAVAILABLE, health says so, the group forms again, and nothing is left behind.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/api.h"
#include "tests/integration/child.h"
#include "tests/integration/small_model.h"
#include "tests/testing/health_client.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr char kService[] = "weir.v1.GenerationService";

std::vector<std::string> With(std::vector<std::string> flags,
                              const std::vector<std::string>& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

// Waits until `condition` holds.
template <typename Condition>
bool Eventually(const Condition& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

// From when a loss is known until running calls have ended.
constexpr absl::Duration kMostUntilEnd = absl::Seconds(2);

bool Works(Api& api) { return api.Generate(GoOn("the hen", 2)).ok(); }

// A text that is read for longer than any test takes to break something.
std::string EndlessText() {
  std::string text;
  for (int i = 0; i < 1000000; ++i) text += "the hen ";
  return text;
}

// A call that runs until something ends it.
class RunningCall {
 public:
  RunningCall(Api& api, const v1::GenerateRequest& request)
      : context_(Deadline()), reader_(api.generation().Generate(context_.get(), request)) {
    v1::GenerateResponse response;
    EXPECT_TRUE(reader_->Read(&response));
  }
  grpc::Status End() {
    v1::GenerateResponse response;
    while (reader_->Read(&response)) {
    }
    return reader_->Finish();
  }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  const std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

std::unique_ptr<Child> StartServe(int ranks) {
  std::vector<std::string> arguments = SmallServerFlags();
  arguments.insert(arguments.begin(), "serve");
  return std::make_unique<Child>(
      With(std::move(arguments),
           {absl::StrCat("--tensor-parallel=", ranks), "--port=0", "--metrics-port=0"}));
}

TEST(FailureTest, KilledWorkersAreReplaced) {
  const auto server = StartServe(3);
  Api api(server->WaitFor("serving gRPC on "));
  const std::string prompt = EndlessText();
  // First the leader (the process that was started first is rank 0), then another rank.
  for (const bool leader : {true, false}) {
    const std::string id = api.NewSession();
    RunningCall decode(api, GoOn("the hen", 0, id));
    RunningCall prefill(api, GoOn(prompt, 1));
    const std::vector<pid_t> workers = server->Children();
    ASSERT_EQ(workers.size(), 3u);
    ASSERT_TRUE(IsServing(api.channel(), kService));
    const absl::Time killed = absl::Now();
    kill(leader ? workers.front() : workers.back(), SIGKILL);
    EXPECT_EQ(decode.End().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(prefill.End().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_LT(absl::Now() - killed, kMostUntilEnd);
    EXPECT_TRUE(Eventually([&] { return !IsServing(api.channel(), kService); }));
    const grpc::Status lost = api.Generate(GoOn("x", 2, id));
    EXPECT_EQ(lost.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(lost.error_message(), HasSubstr(id));

    EXPECT_TRUE(Eventually([&] { return Works(api); })) << server->output();
    EXPECT_TRUE(IsServing(api.channel(), kService));
    const std::string next = api.NewSession();
    EXPECT_TRUE(api.Append(next, 0, {"the hen"}).ok());
    EXPECT_TRUE(api.Delete(next).ok());
  }
}

TEST(FailureTest, KilledServerLeavesNoProcessBehind) {
  const auto server = StartServe(3);
  ASSERT_FALSE(server->WaitFor("serving gRPC on ").empty()) << server->output();
  const std::vector<pid_t> workers = server->Children();
  ASSERT_EQ(workers.size(), 3u);
  server->Signal(SIGKILL);
  EXPECT_EQ(server->Wait(), 128 + SIGKILL);
  for (pid_t worker : workers) {
    EXPECT_TRUE(Eventually([worker] { return !IsAlive(worker); })) << worker;
  }
}

TEST(FailureTest, TerminatedServerEndsRunningCallsAndItself) {
  const auto server = StartServe(3);
  Api api(server->WaitFor("serving gRPC on "));
  RunningCall call(api, GoOn("the hen", 0));
  const std::vector<pid_t> workers = server->Children();
  server->Signal(SIGTERM);
  const grpc::Status end = call.End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(end.error_message(), "the server stops");
  EXPECT_EQ(server->Wait(absl::Seconds(20)), 0);
  for (pid_t worker : workers) EXPECT_FALSE(IsAlive(worker)) << worker;
}

// Coordinator and workers as processes of their own.
class PartsTest : public ::testing::Test {
 protected:
  PartsTest()
      : coordinator_({"coordinator", "--port=0", "--group-port=0", "--metrics-port=0",
                      "--tensor-parallel=3",
                      absl::StrCat("--stall-timeout=", absl::ToInt64Seconds(kStallTimeout))}),
        api_(coordinator_.WaitFor("serving gRPC on ")),
        group_address_(coordinator_.WaitFor("workers join at ")) {}

  static constexpr absl::Duration kStallTimeout = absl::Seconds(1);

  std::unique_ptr<Child> StartWorker(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = SmallServerFlags();
    arguments.insert(arguments.begin(), "worker");
    arguments = With(std::move(arguments), {"--tensor-parallel=3", "--port=0", "--metrics-port=0",
                                            "--coordinator=" + group_address_});
    return std::make_unique<Child>(With(std::move(arguments), more));
  }

  Child coordinator_;
  Api api_;
  const std::string group_address_;
};

TEST_F(PartsTest, CallsSayHowManyWorkersAreMissing) {
  grpc::Status status = api_.Generate(GoOn("x", 2));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("waiting for workers: 0 of 3 joined"));
  EXPECT_FALSE(IsServing(api_.channel(), kService));

  const auto first = StartWorker();
  const auto second = StartWorker();
  EXPECT_TRUE(Eventually([&] {
    status = api_.Generate(GoOn("x", 2));
    return status.error_message().find("waiting for workers: 2 of 3 joined") != std::string::npos;
  })) << status.error_message();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(IsServing(api_.channel(), kService));

  const auto third = StartWorker();
  EXPECT_TRUE(Eventually([&] { return Works(api_); })) << coordinator_.output();
  EXPECT_TRUE(IsServing(api_.channel(), kService));
}

TEST_F(PartsTest, StoppedWorkerEndsCallsAndComesBack) {
  std::vector<std::unique_ptr<Child>> workers;
  for (int rank = 0; rank < 3; ++rank) {
    workers.push_back(StartWorker({absl::StrCat("--rank=", rank)}));
  }
  ASSERT_TRUE(Eventually([&] { return Works(api_); })) << coordinator_.output();
  const std::string prompt = EndlessText();
  for (const int rank : {0, 1}) {
    RunningCall decode(api_, GoOn("the hen", 0));
    RunningCall prefill(api_, GoOn(prompt, 1));
    const absl::Time stopped = absl::Now();
    workers[rank]->Signal(SIGSTOP);
    EXPECT_EQ(decode.End().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(prefill.End().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_LT(absl::Now() - stopped, kStallTimeout + kMostUntilEnd);
    EXPECT_TRUE(Eventually([&] { return !IsServing(api_.channel(), kService); }));
    EXPECT_EQ(api_.Generate(GoOn("x", 2)).error_code(), grpc::StatusCode::UNAVAILABLE);
    workers[rank]->Signal(SIGCONT);
    EXPECT_TRUE(Eventually([&] { return Works(api_); })) << coordinator_.output();
    EXPECT_TRUE(IsServing(api_.channel(), kService));
  }
}

TEST_F(PartsTest, RefusesAWorkerThatDoesNotFit) {
  const auto first = StartWorker();
  ASSERT_TRUE(Eventually([&] {
    return api_.Generate(GoOn("x", 2)).error_message() == "waiting for workers: 1 of 3 joined";
  }));
  Child other({"worker", "--model=" + SmallModelPath(), "--sinks=4", "--slots=32", "--stride=16",
               "--tensor-parallel=3", "--port=0", "--metrics-port=0",
               "--coordinator=" + group_address_});
  EXPECT_FALSE(other.WaitFor("slots=32").empty()) << other.output();
  Child alone({"worker", "--model=" + SmallModelPath(), "--sinks=4", "--slots=64", "--stride=16",
               "--tensor-parallel=1", "--port=0", "--metrics-port=0",
               "--coordinator=" + group_address_});
  EXPECT_FALSE(alone.WaitFor("tensor").empty()) << alone.output();
  // The first one still waits for workers like itself.
  EXPECT_EQ(api_.Generate(GoOn("x", 2)).error_message(), "waiting for workers: 1 of 3 joined");
}

}  // namespace
}  // namespace weir
