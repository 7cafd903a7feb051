#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/coordinator/coordinator_fixture.h"
#include "tests/coordinator/fake_worker.h"

namespace weir {
namespace {

using ::testing::ElementsAre;

constexpr char kUnknownId[] = "0123456789abcdef0123456789abcdef";

using SessionServiceTest = CoordinatorFixture;

TEST_F(SessionServiceTest, SessionsComeAndGo) {
  AddGroup(1);
  std::vector<std::string> ids;
  for (int i = 0; i < FakeWorkerService::kSessionSlots; ++i) ids.push_back(NewSession());
  std::string id;
  const grpc::Status full = CreateSession(&id);
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(full.error_message(), "all 3 session slots are taken");

  EXPECT_EQ(ListSessions(/*page_size=*/2), ids);

  EXPECT_TRUE(DeleteSession(ids[1]).ok());
  EXPECT_EQ(DeleteSession(ids[1]).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(workers_[0]->service().sessions_open(), 2);
  EXPECT_TRUE(CreateSession(&id).ok());
  EXPECT_EQ(ListModels().models(0).sessions_open(), 3);
}

TEST_F(SessionServiceTest, UnknownSessionsAreNotFoundAndNoIdsAreInvalid) {
  AddGroup(1);
  for (const std::string bad : {"", "abc", "0123456789abcdef0123456789abcdeg"}) {
    EXPECT_EQ(GetSession(bad).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(DeleteSession(bad).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    if (!bad.empty()) {
      EXPECT_EQ(Generate(bad, "x").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    }
  }
  const grpc::Status status = GetSession(kUnknownId);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), absl::StrCat("there is no session ", kUnknownId));
  EXPECT_EQ(DeleteSession(kUnknownId).error_message(), status.error_message());
  EXPECT_EQ(Generate(kUnknownId, "x").error_message(), status.error_message());
}

TEST_F(SessionServiceTest, NoSlotIsTakenThatIsNotListed) {
  AddGroup(1);
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::microseconds(100 * i));
    v1::CreateSessionResponse response;
    sessions_->CreateSession(&context, v1::CreateSessionRequest(), &response);
    // Where the deadline passed while the answer was on its way, the session is there all the same.
    for (const std::string& id : ListSessions(0)) EXPECT_TRUE(DeleteSession(id).ok());
  }
  const absl::Time end = absl::Now() + kLong;
  while (workers_[0]->service().sessions_open() > 0 && absl::Now() < end) {
    for (const std::string& id : ListSessions(0)) DeleteSession(id);
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(workers_[0]->service().sessions_open(), 0);
}

TEST_F(SessionServiceTest, InspectStreamsLayers) {
  AddGroup(1);
  grpc::ClientContext context;
  v1::InspectSessionRequest request;
  request.set_session_id(NewSession());
  const auto reader = sessions_->InspectSession(&context, request);
  v1::InspectSessionResponse response;
  std::vector<int> layers;
  while (reader->Read(&response)) layers.push_back(response.layer());
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(layers, ElementsAre(0, 1));
}

}  // namespace
}  // namespace weir
