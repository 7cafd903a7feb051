// Ranks are threads with a GPU each, as many as there are GPUs; groups of more than one rank, and
// what only processes can show, need two.

#include "worker/comm/nccl_communicator.h"

#include <cuda_runtime.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/rank_order_sum.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_tensors.h"
#include "tests/worker/comm/folder_rendezvous.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_memory_rendezvous.h"

namespace weir {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

using Bytes = std::vector<uint8_t>;

int Gpus() {
  int gpus = 0;
  return cudaGetDeviceCount(&gpus) == cudaSuccess ? gpus : 0;
}

void Print(const std::string& sentence) { std::fprintf(stderr, "%s\n", sentence.c_str()); }

// Device memory of the current device, ready for any stream.
class DeviceBytes {
 public:
  explicit DeviceBytes(const Bytes& host) : array_(host) { CheckCuda(cudaDeviceSynchronize()); }
  explicit DeviceBytes(int64_t bytes) : DeviceBytes(Bytes(bytes, 0xff)) {}

  uint8_t* data() const { return array_.data(); }
  // When the stream is idle.
  Bytes Read() const { return array_.Read(); }

 private:
  DeviceArray<uint8_t> array_;
};

Tensor Row(const DeviceBytes& bytes, ElementType type, int64_t elements) {
  return {bytes.data(), type, 1, elements};
}

// A rank of a group: its GPU's stream and its communicator. Used by one thread.
class Rank {
 public:
  Rank(const NcclOptions& options, Rendezvous& rendezvous) {
    CheckCuda(cudaSetDevice(options.gpu));
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    Connect(options, rendezvous);
  }
  ~Rank() {
    communicator_.reset();
    CheckCuda(cudaStreamSynchronize(stream_));
    CheckCuda(cudaStreamDestroy(stream_));
  }

  // In place of the communicator there is, if any.
  void Connect(NcclOptions options, Rendezvous& rendezvous) {
    communicator_.reset();
    options.stream = stream_;
    options.log = Print;
    (void)communicator_.emplace(ConnectNcclCommunicator(options, rendezvous));
  }

  absl::Status status() const { return communicator_->status(); }
  Communicator& communicator() { return ***communicator_; }
  void Leave() { communicator_.reset(); }
  cudaStream_t stream() const { return stream_; }

  // Waits for the stream as a backend does, and as results count only if the group is well after
  // them.
  absl::Status Wait() {
    absl::Time asked = absl::Now();
    while (true) {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state == cudaSuccess) return communicator().Poll();
      (void)cudaGetLastError();
      if (state != cudaErrorNotReady) return absl::InternalError(cudaGetErrorString(state));
      if (absl::Now() - asked < absl::Milliseconds(1)) continue;
      asked = absl::Now();
      if (absl::Status status = communicator().Poll(); !status.ok()) return status;
    }
  }

  absl::Status Sum(const DeviceBytes& bytes, ElementType type, int64_t elements) {
    return communicator().AllReduceSum(Row(bytes, type, elements));
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::optional<absl::StatusOr<std::unique_ptr<Communicator>>> communicator_;
};

NcclOptions Options(int rank, int size, absl::Duration timeout = absl::Seconds(30)) {
  NcclOptions options;
  options.group = {.rank = rank, .size = size, .timeout = timeout};
  options.gpu = rank;
  return options;
}

// Calls body(rank) for every rank of a group on a thread of its own.
template <typename Body>
void RunGroup(int size, const NcclOptions& like, Body body) {
  InMemoryRendezvous rendezvous;
  RunRanks(size, [&](int number) {
    NcclOptions options = Options(number, size, like.group.timeout);
    options.one_shot = like.one_shot;
    Rank rank(options, rendezvous);
    ASSERT_TRUE(rank.status().ok()) << rank.status();
    body(rank);
  });
}

// Groups of all sizes that there are GPUs for.
std::vector<int> Sizes() {
  std::vector<int> sizes;
  for (int size = 1; size <= Gpus(); ++size) sizes.push_back(size);
  return sizes;
}

struct Case {
  ElementType type = ElementType::kFloat32;
  int64_t elements = 0;
  std::vector<Bytes> inputs;  // by rank
};

std::vector<Case> Cases(int size, std::vector<int64_t> lengths) {
  std::mt19937 random(7);
  std::vector<Case> cases;
  for (const ElementType type : {ElementType::kBFloat16, ElementType::kFloat32}) {
    for (const int64_t elements : lengths) {
      Case& added = cases.emplace_back(Case{.type = type, .elements = elements});
      for (int rank = 0; rank < size; ++rank) {
        added.inputs.push_back(RandomTensor(random, type, elements));
      }
    }
  }
  return cases;
}

// One, below and above what goes through the small kernel (65536 floats), and more than one piece
// of a sum of more than two ranks (4 million floats).
const std::vector<int64_t> kLengths = {1,     2,     7,      4096,   4097,   65536,
                                       65537, 70001, 131072, 131073, 999999, 9000001};

TEST(NcclCommunicatorTest, SumsInRankOrderWhicheverWayTheyGo) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<Case> cases = Cases(size, kLengths);
    std::vector<Bytes> sums;
    for (const Case& one : cases) {
      std::string wrong;
      sums.push_back(SumInOrder(one.inputs, one.type, &wrong));
      ASSERT_EQ(wrong, "");
    }
    for (const bool one_shot : {true, false}) {
      NcclOptions like;
      like.one_shot = one_shot;
      like.group.timeout = absl::Seconds(30);
      RunGroup(size, like, [&](Rank& rank) {
        for (size_t i = 0; i < cases.size(); ++i) {
          const Case& one = cases[i];
          const DeviceBytes x(one.inputs[rank.communicator().rank()]);
          absl::Status status = rank.Sum(x, one.type, one.elements);
          if (status.ok()) status.Update(rank.Wait());
          ASSERT_TRUE(status.ok()) << status;
          ASSERT_EQ(FirstDifference(x.Read(), sums[i], one.type), "")
              << one.elements << " elements of " << ElementBytes(one.type) << " bytes, rank "
              << rank.communicator().rank() << " of " << size << ", one_shot " << one_shot;
        }
        ASSERT_TRUE(rank.communicator().AllReduceSum({}).ok());
      });
    }
  }
}

TEST(NcclCommunicatorTest, GathersTheRanksOneAfterTheOther) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<Case> cases = Cases(size, {1, 3, 4097, 65536, 131073, 500001});
    for (const bool one_shot : {true, false}) {
      NcclOptions like;
      like.one_shot = one_shot;
      like.group.timeout = absl::Seconds(30);
      RunGroup(size, like, [&](Rank& rank) {
        for (const Case& one : cases) {
          Bytes want;
          for (const Bytes& input : one.inputs) want.insert(want.end(), input.begin(), input.end());
          const DeviceBytes x(one.inputs[rank.communicator().rank()]);
          const DeviceBytes out(static_cast<int64_t>(want.size()));
          absl::Status status = rank.communicator().AllGather(
              Row(x, one.type, one.elements), {out.data(), one.type, size, one.elements});
          if (status.ok()) status.Update(rank.Wait());
          ASSERT_TRUE(status.ok()) << status;
          ASSERT_EQ(FirstDifference(out.Read(), want, one.type), "")
              << one.elements << " elements of " << ElementBytes(one.type) << " bytes, rank "
              << rank.communicator().rank() << " of " << size << ", one_shot " << one_shot;
        }
      });
    }
  }
}

TEST(NcclCommunicatorTest, BytesGoFromAndToRankZero) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    RunGroup(size, Options(0, 1), [&](Rank& rank) {
      Communicator& communicator = rank.communicator();
      ASSERT_EQ(communicator.size(), size);
      // While nobody can have left.
      ASSERT_TRUE(communicator.Poll().ok());
      std::string plan = communicator.rank() == 0 ? "plan" : "";
      ASSERT_TRUE(communicator.Broadcast(plan).ok());
      ASSERT_EQ(plan, "plan");
      const auto gathered = communicator.Gather(absl::StrCat("from ", communicator.rank()));
      ASSERT_TRUE(gathered.ok()) << gathered.status();
      for (size_t peer = 0; peer < gathered->size(); ++peer) {
        ASSERT_EQ((*gathered)[peer], absl::StrCat("from ", peer));
      }
    });
  }
}

// A graph that sums what lies in `in`, tensor by tensor, into `out`.
class SumGraph {
 public:
  SumGraph(Rank& rank, const std::vector<Case>& cases) : cases_(cases) {
    for (const Case& one : cases) {
      in_.push_back(std::make_unique<DeviceBytes>(one.inputs[rank.communicator().rank()]));
      out_.push_back(std::make_unique<DeviceBytes>(static_cast<int64_t>(one.inputs[0].size())));
    }
    CheckCuda(cudaStreamBeginCapture(rank.stream(), cudaStreamCaptureModeThreadLocal));
    absl::Status status;
    for (size_t i = 0; i < cases.size() && status.ok(); ++i) {
      // The sum of one rank is a copy.
      CheckCuda(LaunchRankOrderSum(in_[i]->data(), 1, cases[i].type, cases[i].elements,
                                   out_[i]->data(), rank.stream()));
      status.Update(rank.Sum(*out_[i], cases[i].type, cases[i].elements));
    }
    EXPECT_TRUE(status.ok()) << status;
    cudaGraph_t graph;
    CheckCuda(cudaStreamEndCapture(rank.stream(), &graph));
    CheckCuda(cudaGraphInstantiate(&graph_, graph, 0));
    CheckCuda(cudaGraphDestroy(graph));
  }
  ~SumGraph() { CheckCuda(cudaGraphExecDestroy(graph_)); }

  void Launch(Rank& rank) { CheckCuda(cudaGraphLaunch(graph_, rank.stream())); }

  // Where the sums are not `sums`; empty if nowhere.
  std::string Difference(const std::vector<Bytes>& sums) const {
    for (size_t i = 0; i < sums.size(); ++i) {
      const std::string difference = FirstDifference(out_[i]->Read(), sums[i], cases_[i].type);
      if (!difference.empty()) {
        return absl::StrCat("sum ", i, " of ", cases_[i].elements, " elements: ", difference);
      }
    }
    return "";
  }

 private:
  const std::vector<Case>& cases_;
  std::vector<std::unique_ptr<DeviceBytes>> in_, out_;
  cudaGraphExec_t graph_ = nullptr;
};

std::vector<Bytes> SumsOf(const std::vector<Case>& cases) {
  std::vector<Bytes> sums;
  for (const Case& one : cases) {
    std::string wrong;
    sums.push_back(SumInOrder(one.inputs, one.type, &wrong));
    EXPECT_EQ(wrong, "");
  }
  return sums;
}

TEST(NcclCommunicatorTest, AGraphGivesTheSameBitsOnAllRanksAThousandTimes) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<Case> cases = Cases(size, {4096, 1, 131073, 3 * 4096});
    const std::vector<Bytes> sums = SumsOf(cases);
    RunGroup(size, Options(0, 1), [&](Rank& rank) {
      SumGraph graph(rank, cases);
      for (int replay = 1; replay <= 1000; ++replay) {
        graph.Launch(rank);
        if (replay % 20 != 0) continue;
        std::string bytes;
        absl::Status status = rank.Wait();
        if (status.ok()) status.Update(rank.communicator().Broadcast(bytes));
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_EQ(graph.Difference(sums), "")
            << "replay " << replay << ", rank " << rank.communicator().rank() << " of " << size;
      }
    });
  }
}

TEST(NcclCommunicatorTest, StartedSumsFinishInTheOrderOfStarting) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<Case> cases = Cases(size, {1 << 20, 4096, 999999, 1, 131073});
    const std::vector<Bytes> sums = SumsOf(cases);
    NcclOptions like;
    like.group.timeout = absl::Seconds(30);
    RunGroup(size, like, [&](Rank& rank) {
      for (size_t i = 0; i + 1 < cases.size(); i += 2) {
        std::vector<std::unique_ptr<DeviceBytes>> x;
        absl::Status status;
        for (size_t j = i; j < i + 2; ++j) {
          x.push_back(std::make_unique<DeviceBytes>(cases[j].inputs[rank.communicator().rank()]));
          status.Update(rank.communicator().StartSum(
              {x.back()->data(), cases[j].type, 1, cases[j].elements}));
        }
        for (size_t j = 0; j < 2; ++j) status.Update(rank.communicator().FinishSum());
        status.Update(rank.Wait());
        ASSERT_TRUE(status.ok()) << status;
        for (size_t j = 0; j < 2; ++j) {
          ASSERT_EQ(FirstDifference(x[j]->Read(), sums[i + j], cases[i + j].type), "")
              << cases[i + j].elements << " elements, rank " << rank.communicator().rank();
        }
      }
    });
  }
}

TEST(NcclCommunicatorTest, SharedRowsBecomeWhatASumAndANormMakeOfThem) {
  if (Gpus() < 2) GTEST_SKIP() << "needs two GPUs";
  constexpr int kRows = 4096;
  constexpr int kWidth = 4096;
  constexpr float kEpsilon = 1e-5f;
  for (int size = 2; size <= Gpus(); ++size) {
    for (const int rows : {kRows, 64, 999}) {
      const std::vector<Case> cases = Cases(size, {int64_t{rows} * kWidth});  // bfloat16, float32
      const std::vector<float> ones(kWidth, 1.0f);
      RunGroup(size, Options(0, 1), [&](Rank& rank) {
        const int number = rank.communicator().rank();
        const auto shared = rank.communicator().ShareRows(kRows, kWidth);
        ASSERT_TRUE(shared.ok()) << shared.status();
        if (!shared->has_value()) return;  // GPUs that do not reach one another
        const DeviceBytes delta(cases[0].inputs[number]);
        const DeviceBytes residual(cases[1].inputs[0]);
        const DeviceBytes share(cases[1].inputs[0]);
        const DeviceArray<float> weight(ones);
        const DeviceBytes want(int64_t{2} * rows * kWidth);
        CheckCuda(cudaMemcpy((*shared)->delta.data, delta.data(), cases[0].inputs[0].size(),
                             cudaMemcpyDeviceToDevice));
        CheckCuda(cudaDeviceSynchronize());
        absl::Status status = rank.communicator().SumAddRmsNorm(
            {share.data(), ElementType::kFloat32, rows, kWidth},
            {weight.data(), ElementType::kFloat32, 1, kWidth}, kEpsilon);
        if (status.ok()) status.Update(rank.Sum(delta, cases[0].type, cases[0].elements));
        ASSERT_TRUE(status.ok()) << status;
        CheckCuda(LaunchRmsNorm(reinterpret_cast<float*>(residual.data()),
                                reinterpret_cast<const __nv_bfloat16*>(delta.data()), weight.data(),
                                kEpsilon, rows, kWidth,
                                reinterpret_cast<__nv_bfloat16*>(want.data()), rank.stream()));
        status.Update(rank.Wait());
        ASSERT_TRUE(status.ok()) << status;
        Bytes got(int64_t{2} * rows * kWidth);
        CheckCuda(
            cudaMemcpy(got.data(), (*shared)->normed.data, got.size(), cudaMemcpyDeviceToHost));
        ASSERT_EQ(FirstDifference(got, want.Read(), ElementType::kBFloat16), "")
            << rows << " rows, rank " << number << " of " << size;
      });
    }
  }
}

TEST(NcclCommunicatorTest, RefusesWrongSettings) {
  InMemoryRendezvous rendezvous;
  NcclOptions options = Options(0, 1);
  options.gpu = 1000;
  const absl::Status no_gpu = ConnectNcclCommunicator(options, rendezvous).status();
  EXPECT_EQ(no_gpu.code(), absl::StatusCode::kInvalidArgument) << no_gpu;
  if (Gpus() < 1) GTEST_SKIP() << "the rest needs a GPU";
  EXPECT_THAT(std::string(no_gpu.message()), HasSubstr("GPU 1000"));

  RunRanks(2, [&](int number) {
    NcclOptions shared = Options(number, 2);
    shared.gpu = 0;
    const Rank rank(shared, rendezvous);
    // The rank that finds it out first leaves, and the other may see that first.
    EXPECT_THAT(rank.status().code(),
                AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnavailable))
        << rank.status();
    if (absl::IsInvalidArgument(rank.status())) {
      EXPECT_THAT(std::string(rank.status().message()), HasSubstr("ranks 0 and 1 both use GPU-"));
    }
  });
}

TEST(NcclCommunicatorTest, NamesARankThatNeverComes) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  InMemoryRendezvous rendezvous;
  NcclOptions options = Options(0, 2);
  options.group.join_timeout = absl::Milliseconds(50);
  const absl::Status status = ConnectNcclCommunicator(options, rendezvous).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 of 2"));
}

// Small sums wait in Weir's kernel, large ones in NCCL's.
constexpr int64_t kSmall = 4096;
constexpr int64_t kLarge = 4 << 20;

class NcclFailureTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (Gpus() < 2) GTEST_SKIP() << "needs two GPUs";
  }
};

TEST_P(NcclFailureTest, AbortFromAnotherThreadEndsAWaitForARankThatNeverComes) {
  const std::vector<Case> cases = Cases(2, {GetParam()});
  const std::vector<Bytes> sums = SumsOf(cases);
  InMemoryRendezvous rendezvous, next;
  RunRanks(2, [&](int number) {
    Rank rank(Options(number, 2), rendezvous);
    ASSERT_TRUE(rank.status().ok()) << rank.status();
    const DeviceBytes x(cases[0].inputs[number]);
    if (number == 0) {
      ASSERT_TRUE(rank.Sum(x, cases[0].type, cases[0].elements).ok());
      std::thread aborting([&] {
        absl::SleepFor(absl::Milliseconds(200));
        rank.communicator().Abort();
      });
      const absl::Time start = absl::Now();
      const absl::Status status = rank.Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
      EXPECT_LT(absl::Now() - start, absl::Seconds(5));
      aborting.join();
      EXPECT_FALSE(rank.Sum(x, cases[0].type, cases[0].elements).ok());
    } else {
      absl::Status status;
      while (status.ok()) {
        absl::SleepFor(absl::Milliseconds(10));
        status.Update(rank.communicator().Poll());
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
    // GPU and stream are as good as new.
    rank.Connect(Options(number, 2), next);
    ASSERT_TRUE(rank.status().ok()) << rank.status();
    SumGraph graph(rank, cases);
    graph.Launch(rank);
    const absl::Status status = rank.Wait();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(graph.Difference(sums), "");
  });
}

TEST_P(NcclFailureTest, ASilentRankIsNamedAfterTheTimeout) {
  const std::vector<Case> cases = Cases(2, {GetParam()});
  InMemoryRendezvous rendezvous;
  RunRanks(2, [&](int number) {
    Rank rank(Options(number, 2, absl::Seconds(2)), rendezvous);
    ASSERT_TRUE(rank.status().ok()) << rank.status();
    const DeviceBytes x(cases[0].inputs[number]);
    if (number == 1) {
      // Says nothing and stays.
      absl::SleepFor(absl::Seconds(5));
      EXPECT_EQ(rank.communicator().Poll().code(), absl::StatusCode::kUnavailable);
      return;
    }
    ASSERT_TRUE(rank.Sum(x, cases[0].type, cases[0].elements).ok());
    const absl::Time start = absl::Now();
    const absl::Status status = rank.Wait();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("2s")));
    EXPECT_LT(absl::Now() - start, absl::Seconds(3.5));
    EXPECT_EQ(rank.Sum(x, cases[0].type, cases[0].elements), status);
  });
}

INSTANTIATE_TEST_SUITE_P(Sums, NcclFailureTest, ::testing::Values(kSmall, kLarge),
                         [](const ::testing::TestParamInfo<int64_t>& info) {
                           return info.param == kSmall ? "Small" : "Large";
                         });

// ---- Ranks that are processes ----

constexpr char kFolderVariable[] = "WEIR_TEST_RENDEZVOUS";
constexpr char kElementsVariable[] = "WEIR_TEST_ELEMENTS";
constexpr absl::Duration kProcessTimeout = absl::Seconds(3);

// What rank 1 does, in a process of its own: replays its graph until the group is over.
TEST(NcclPeerProcess, DISABLED_ReplaysItsGraph) {
  const char* folder = std::getenv(kFolderVariable);
  const char* elements = std::getenv(kElementsVariable);
  ASSERT_TRUE(folder != nullptr && elements != nullptr);
  FolderRendezvous rendezvous(folder);
  Rank rank(Options(1, 2, kProcessTimeout), rendezvous);
  ASSERT_TRUE(rank.status().ok()) << rank.status();
  const std::vector<Case> cases = Cases(2, {std::atoll(elements)});
  {
    SumGraph graph(rank, cases);
    absl::Status status;
    while (status.ok()) {
      graph.Launch(rank);
      status.Update(rank.Wait());
      std::string bytes;
      if (status.ok()) status.Update(rank.communicator().Broadcast(bytes));
    }
  }
  rank.Leave();
}

class PeerProcess {
 public:
  PeerProcess(const std::string& folder, int64_t elements) {
    std::string filter = "--gtest_filter=NcclPeerProcess.*";
    std::string disabled = "--gtest_also_run_disabled_tests";
    std::string name = "rank 1";
    char* const arguments[] = {name.data(), filter.data(), disabled.data(), nullptr};
    Require(setenv(kFolderVariable, folder.c_str(), 1) == 0);
    Require(setenv(kElementsVariable, absl::StrCat(elements).c_str(), 1) == 0);
    Require(posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, arguments, environ) == 0);
  }
  ~PeerProcess() {
    kill(pid_, SIGKILL);
    int status;
    waitpid(pid_, &status, 0);
  }

  void Signal(int signal) { kill(pid_, signal); }

 private:
  static void Require(bool done) {
    if (!done) std::abort();
  }

  pid_t pid_ = 0;
};

class NcclProcessTest : public ::testing::TestWithParam<std::tuple<int, int64_t>> {};

TEST_P(NcclProcessTest, AGroupOutlivesARankThatEndsOrStops) {
  if (Gpus() < 2) GTEST_SKIP() << "needs two GPUs";
  const auto [signal, elements] = GetParam();
  const std::vector<Case> cases = Cases(2, {elements});
  const std::vector<Bytes> sums = SumsOf(cases);

  std::vector<std::unique_ptr<PeerProcess>> peers;
  std::unique_ptr<Rank> rank;
  for (const bool last : {false, true}) {
    SCOPED_TRACE(last ? "second group" : "first group");
    std::string folder = ::testing::TempDir() + "/nccl_XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    PeerProcess& peer = *peers.emplace_back(std::make_unique<PeerProcess>(folder, elements));
    FolderRendezvous rendezvous(folder);
    if (rank == nullptr) {
      rank = std::make_unique<Rank>(Options(0, 2, kProcessTimeout), rendezvous);
    } else {
      rank->Connect(Options(0, 2, kProcessTimeout), rendezvous);
    }
    ASSERT_TRUE(rank->status().ok()) << rank->status();
    SumGraph graph(*rank, cases);
    const auto step = [&] {
      graph.Launch(*rank);
      absl::Status status = rank->Wait();
      std::string bytes;
      if (status.ok()) status.Update(rank->communicator().Broadcast(bytes));
      return status;
    };
    for (int replay = 0; replay < 50; ++replay) {
      const absl::Status status = step();
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(graph.Difference(sums), "") << "replay " << replay;
    }
    if (last) break;
    std::thread signalling([&] {
      absl::SleepFor(absl::Milliseconds(20));
      peer.Signal(signal);
    });
    absl::Status status;
    const absl::Time start = absl::Now();
    while (status.ok()) status.Update(step());
    Print(
        absl::StrCat("after ", absl::FormatDuration(absl::Now() - start), ": ", status.ToString()));
    signalling.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_LT(absl::Now() - start, kProcessTimeout + absl::Seconds(3));
  }
}

INSTANTIATE_TEST_SUITE_P(Signals, NcclProcessTest,
                         ::testing::Combine(::testing::Values(SIGKILL, SIGSTOP),
                                            ::testing::Values(kSmall, kLarge)),
                         [](const ::testing::TestParamInfo<std::tuple<int, int64_t>>& info) {
                           return absl::StrCat(
                               std::get<0>(info.param) == SIGKILL ? "Kill" : "Stop",
                               std::get<1>(info.param) == kSmall ? "Small" : "Large");
                         });

}  // namespace
}  // namespace weir
