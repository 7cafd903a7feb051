// What only processes and sockets can show; communicator_test.cc has the rest.

#include "worker/comm/gloo_communicator.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/folder_rendezvous.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_memory_rendezvous.h"

namespace weir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Tensor Float32(std::vector<float>& values) {
  return {values.data(), ElementType::kFloat32, 1, static_cast<int64_t>(values.size())};
}

TEST(GlooCommunicatorTest, ProcessesSumAndAKilledOneIsNamed) {
  std::string folder = ::testing::TempDir() + "/gloo_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  constexpr int kSize = 3;
  constexpr int kVictim = 2;
  const auto connect = [&](int rank) {
    FolderRendezvous rendezvous(folder);
    return ConnectGlooCommunicator({.rank = rank, .size = kSize, .timeout = absl::Minutes(10)},
                                   rendezvous);
  };
  // Children report by exit code.
  const auto child = [&](int rank) -> int {
    const auto communicator = connect(rank);
    if (!communicator.ok()) return 10;
    for (const size_t count : {576, 50000}) {
      std::vector<float> x(count, static_cast<float>(rank + 1));
      if (!(*communicator)->AllReduceSum(Float32(x)).ok()) return 11;
      for (const float element : x) {
        if (element != 6) return 12;
      }
    }
    if (rank == kVictim) raise(SIGKILL);
    std::vector<float> x(576);
    const absl::Status status = (*communicator)->AllReduceSum(Float32(x));
    return status.code() == absl::StatusCode::kUnavailable ? 0 : 13;
  };
  std::vector<pid_t> children;
  for (int rank = 1; rank < kSize; ++rank) {
    const pid_t process = fork();
    ASSERT_GE(process, 0);
    if (process == 0) _exit(child(rank));
    children.push_back(process);
  }

  const auto communicator = connect(0);
  ASSERT_TRUE(communicator.ok()) << communicator.status();
  for (const size_t count : {576, 50000}) {
    std::vector<float> x(count, 1);
    ASSERT_TRUE((*communicator)->AllReduceSum(Float32(x)).ok());
    EXPECT_THAT(x, ::testing::Each(6));
  }
  std::vector<float> x(576);
  const absl::Status lost = (*communicator)->AllReduceSum(Float32(x));
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(lost.message()), HasSubstr("lost rank "));

  int status;
  ASSERT_EQ(waitpid(children[0], &status, 0), children[0]);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  ASSERT_EQ(waitpid(children[1], &status, 0), children[1]);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

TEST(GlooCommunicatorTest, NamesARankThatNeverJoins) {
  InMemoryRendezvous rendezvous;
  const absl::Status status =
      ConnectGlooCommunicator({.rank = 0, .size = 3, .join_timeout = absl::Milliseconds(50)},
                              rendezvous)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank 1 of 3"), HasSubstr("50ms")));
}

TEST(GlooCommunicatorTest, RefusesWrongOptions) {
  InMemoryRendezvous rendezvous;
  const auto refusal = [&](const GlooOptions& options) {
    const absl::Status status = ConnectGlooCommunicator(options, rendezvous).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal({.rank = 3, .size = 3}), AllOf(HasSubstr("rank is 3"), HasSubstr("0 to 2")));
  EXPECT_THAT(refusal({.rank = -1, .size = 3}), HasSubstr("rank is -1"));
  EXPECT_THAT(refusal({.rank = 0, .size = 2, .timeout = absl::ZeroDuration()}),
              AllOf(HasSubstr("timeout is 0"), HasSubstr("1ms")));
  // An address for documentation (RFC 5737), which no host has.
  EXPECT_THAT(refusal({.rank = 0, .size = 2, .address = "192.0.2.1"}), HasSubstr("'192.0.2.1'"));
}

// Passes values on, after letting the test see them.
class WatchedRendezvous : public Rendezvous {
 public:
  explicit WatchedRendezvous(std::function<void(const std::string&, const std::string&)> on_put)
      : on_put_(std::move(on_put)) {}
  absl::Status Put(const std::string& key, const std::string& value) override {
    on_put_(key, value);
    return rendezvous_.Put(key, value);
  }
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    return rendezvous_.Get(key, timeout);
  }

 private:
  InMemoryRendezvous rendezvous_;
  std::function<void(const std::string&, const std::string&)> on_put_;
};

TEST(GlooCommunicatorTest, AStrangerOnThePortBreaksTheGroupAndNothingElse) {
  // Strangers are first on every port, and send what Gloo never would.
  absl::Mutex mutex;
  std::vector<int> strangers;
  WatchedRendezvous rendezvous([&](const std::string& key, const std::string& value) {
    sockaddr_in address;
    ASSERT_GE(value.size(), sizeof(address));
    std::memcpy(&address, value.data(), sizeof(address));
    const int stranger = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect(stranger, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const std::string noise(200, 'G');
    EXPECT_EQ(send(stranger, noise.data(), noise.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(noise.size()));
    absl::MutexLock lock(&mutex);
    strangers.push_back(stranger);
  });
  RunRanks(2, [&](int rank) {
    const absl::Status status =
        ConnectGlooCommunicator({.rank = rank, .size = 2, .timeout = absl::Milliseconds(200)},
                                rendezvous)
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", 1 - rank)));
  });
  for (const int stranger : strangers) close(stranger);
}

}  // namespace
}  // namespace weir
