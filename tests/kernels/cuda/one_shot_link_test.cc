// Ranks are threads or processes that share the first GPU.

#include "kernels/cuda/peers/one_shot_link.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/peers/peer_memory.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_devices.h"
#include "tests/worker/comm/folder_rendezvous.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_memory_rendezvous.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr absl::Duration kPatience = absl::Seconds(60);

class Stream {
 public:
  Stream() {
    CheckCuda(cudaSetDevice(0));
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~Stream() { CheckCuda(cudaStreamDestroy(stream_)); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Meets the other ranks; null, and a failed test, if that does not come about.
std::unique_ptr<OneShotLink> Meet(int rank, int ranks, Rendezvous& rendezvous) {
  absl::StatusOr<std::unique_ptr<OneShotLink>> link = OneShotLink::Create(0, rank, ranks);
  EXPECT_TRUE(link.ok()) << link.status();
  if (!link.ok()) return nullptr;
  EXPECT_TRUE(rendezvous.Put(absl::StrCat("card ", rank), (*link)->card()).ok());
  std::vector<std::string> cards;
  for (int peer = 0; peer < ranks; ++peer) {
    const absl::StatusOr<std::string> card = rendezvous.Get(absl::StrCat("card ", peer), kPatience);
    EXPECT_TRUE(card.ok()) << card.status();
    if (!card.ok()) return nullptr;
    cards.push_back(*card);
  }
  const absl::Status connected = (*link)->Connect(cards);
  EXPECT_TRUE(connected.ok()) << connected;
  return connected.ok() ? *std::move(link) : nullptr;
}

TEST(OneShotLinkTest, ThreadsMeetAgainAndAgain) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  for (const int ranks : {1, 2, 3, 4}) {
    for (int generation = 0; generation < 3; ++generation) {
      SCOPED_TRACE(absl::StrCat(ranks, " ranks, generation ", generation));
      InMemoryRendezvous rendezvous;
      RunRanks(ranks, [&](int rank) {
        const Stream stream;
        const std::unique_ptr<OneShotLink> link = Meet(rank, ranks, rendezvous);
        ASSERT_NE(link, nullptr);
        for (int sum = 0; sum < 20; ++sum) {
          const absl::Status status = link->Try(stream.get(), kPatience);
          ASSERT_TRUE(status.ok()) << status;
        }
        // As long as others work, what they write to stays.
        ASSERT_TRUE(rendezvous.Put(absl::StrCat("done ", rank), "").ok());
        for (int peer = 0; peer < ranks; ++peer) {
          ASSERT_TRUE(rendezvous.Get(absl::StrCat("done ", peer), kPatience).ok());
        }
      });
    }
  }
}

TEST(OneShotLinkTest, ATrialThatNobodyTakesPartInFailsAndEnds) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  InMemoryRendezvous rendezvous;
  RunRanks(2, [&](int rank) {
    const Stream stream;
    const std::unique_ptr<OneShotLink> link = Meet(rank, 2, rendezvous);
    ASSERT_NE(link, nullptr);
    if (rank == 0) {
      const absl::Status status = link->Try(stream.get(), absl::Milliseconds(200));
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("200ms"));
      EXPECT_EQ(cudaStreamQuery(stream.get()), cudaSuccess);
      ASSERT_TRUE(rendezvous.Put("done", "").ok());
    }
    ASSERT_TRUE(rendezvous.Get("done", kPatience).ok());
  });
}

TEST(PeerMemoryTest, CardsNameTheGpuAndAreChecked) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const auto first = PeerMemory::Create(0, 1000);
  const auto second = PeerMemory::Create(0, 1000);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->data(), (*second)->data());
  const absl::StatusOr<std::string> gpu = GpuOfCard((*first)->card());
  ASSERT_TRUE(gpu.ok()) << gpu.status();
  EXPECT_THAT(*gpu, StartsWith("GPU-"));
  EXPECT_EQ(gpu->size(), std::string("GPU-12345678-1234-1234-1234-123456789012").size());
  EXPECT_EQ(*GpuOfCard((*second)->card()), *gpu);
  EXPECT_NE(*NonceOfCard((*first)->card()), *NonceOfCard((*second)->card()));

  const absl::StatusOr<std::byte*> opened = (*first)->Open((*second)->card());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(*opened, (*second)->data());
  for (const std::string& wrong :
       {std::string(), std::string("card"), std::string((*second)->card().size(), 'x')}) {
    EXPECT_EQ((*first)->Open(wrong).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GpuOfCard(wrong).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// ---- Processes ----

constexpr char kFolderVariable[] = "WEIR_TEST_RENDEZVOUS";
constexpr int kTrials = 10;

void MeetAndTry(int rank, const std::string& folder) {
  FolderRendezvous rendezvous(folder);
  const Stream stream;
  const std::unique_ptr<OneShotLink> link = Meet(rank, 2, rendezvous);
  ASSERT_NE(link, nullptr);
  for (int sum = 0; sum < kTrials; ++sum) {
    const absl::Status status = link->Try(stream.get(), kPatience);
    ASSERT_TRUE(status.ok()) << status;
  }
  ASSERT_TRUE(rendezvous.Put(absl::StrCat("done ", rank), "").ok());
  ASSERT_TRUE(rendezvous.Get(absl::StrCat("done ", 1 - rank), kPatience).ok());
}

TEST(OneShotLinkPeerProcess, DISABLED_MeetsAndTries) {
  const char* folder = std::getenv(kFolderVariable);
  ASSERT_NE(folder, nullptr);
  MeetAndTry(1, folder);
}

// Two processes on one GPU take turns by time slices, so a sum takes long, but it works.
TEST(OneShotLinkTest, ProcessesMeet) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::string folder = ::testing::TempDir() + "/link_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(setenv(kFolderVariable, folder.c_str(), 1), 0);
  std::string name = "rank 1";
  std::string filter = "--gtest_filter=OneShotLinkPeerProcess.*";
  std::string disabled = "--gtest_also_run_disabled_tests";
  char* const arguments[] = {name.data(), filter.data(), disabled.data(), nullptr};
  pid_t peer;
  ASSERT_EQ(posix_spawn(&peer, "/proc/self/exe", nullptr, nullptr, arguments, environ), 0);
  const absl::Time start = absl::Now();
  MeetAndTry(0, folder);
  std::printf("%d sums of two processes: %s\n", kTrials,
              absl::FormatDuration(absl::Now() - start).c_str());
  int status;
  ASSERT_EQ(waitpid(peer, &status, 0), peer);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace weir
