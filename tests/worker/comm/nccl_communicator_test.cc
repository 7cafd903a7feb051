// What collectives make of tensors and bytes. Ranks are threads with a GPU each, as many as there
// are GPUs; what groups of more than one rank do needs two.

#include "worker/comm/nccl_communicator.h"

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/peers/rank_order_sum.h"
#include "kernels/row_share.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_tensors.h"
#include "tests/worker/comm/nccl_rank.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_memory_rendezvous.h"

namespace weir {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// Calls body(rank) for every rank of a group on a thread of its own.
template <typename Body>
void RunGroup(int size, const NcclOptions& like, Body body) {
  InMemoryRendezvous rendezvous;
  RunRanks(size, [&](int number) {
    NcclOptions options = Options(number, size, like.group.timeout);
    options.one_shot = like.one_shot;
    NcclRank rank(options, rendezvous);
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

// One, below and above what goes through the small kernel (65536 floats), and more than one piece
// of a sum of more than two ranks (4 million floats).
const std::vector<int64_t> kLengths = {1,     2,     7,      4096,   4097,   65536,
                                       65537, 70001, 131072, 131073, 999999, 9000001};

TEST(NcclCommunicatorTest, SumsInRankOrderWhicheverWayTheyGo) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<RankInputs> cases = RandomInputs(size, kLengths);
    const std::vector<Bytes> sums = SumsOf(cases);
    for (const bool one_shot : {true, false}) {
      NcclOptions like;
      like.one_shot = one_shot;
      like.group.timeout = absl::Seconds(30);
      RunGroup(size, like, [&](NcclRank& rank) {
        for (size_t i = 0; i < cases.size(); ++i) {
          const RankInputs& one = cases[i];
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
    const std::vector<RankInputs> cases = RandomInputs(size, {1, 3, 4097, 65536, 131073, 500001});
    for (const bool one_shot : {true, false}) {
      NcclOptions like;
      like.one_shot = one_shot;
      like.group.timeout = absl::Seconds(30);
      RunGroup(size, like, [&](NcclRank& rank) {
        for (const RankInputs& one : cases) {
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
    RunGroup(size, Options(0, 1), [&](NcclRank& rank) {
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

TEST(NcclCommunicatorTest, AGraphGivesTheSameBitsOnAllRanksAThousandTimes) {
  if (Gpus() < 1) GTEST_SKIP() << "needs a GPU";
  for (const int size : Sizes()) {
    const std::vector<RankInputs> cases = RandomInputs(size, {4096, 1, 131073, 3 * 4096});
    const std::vector<Bytes> sums = SumsOf(cases);
    RunGroup(size, Options(0, 1), [&](NcclRank& rank) {
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
    const std::vector<RankInputs> cases = RandomInputs(size, {1 << 20, 4096, 999999, 1, 131073});
    const std::vector<Bytes> sums = SumsOf(cases);
    NcclOptions like;
    like.group.timeout = absl::Seconds(30);
    RunGroup(size, like, [&](NcclRank& rank) {
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

TEST(NcclCommunicatorTest, FewRowsBecomeWhatASumAndANormMakeOfThem) {
  if (Gpus() < 2) GTEST_SKIP() << "needs two GPUs";
  constexpr int kWidth = 4096;
  constexpr float kEpsilon = 1e-5f;
  for (int size = 2; size <= Gpus(); ++size) {
    for (const int rows : {1, 7, 32}) {
      const std::vector<RankInputs> cases =
          RandomInputs(size, {int64_t{rows} * kWidth});  // bfloat16, float32
      const std::vector<float> ones(kWidth, 1.0f);
      RunGroup(size, Options(0, 1), [&](NcclRank& rank) {
        Communicator& communicator = rank.communicator();
        if (!ReachOneAnother(size)) GTEST_SKIP() << "GPUs that do not reach one another";
        ASSERT_TRUE(communicator.FusesNorm(rows, kWidth));
        // A block a row, vectors of 8, and what an inbox holds.
        EXPECT_TRUE(communicator.FusesNorm(64, 8));
        EXPECT_FALSE(communicator.FusesNorm(65, 8));
        EXPECT_FALSE(communicator.FusesNorm(1, 12));
        EXPECT_FALSE(communicator.FusesNorm(33, kWidth));
        const DeviceBytes delta(cases[0].inputs[communicator.rank()]);
        const DeviceBytes residual(cases[1].inputs[0]), apart(cases[1].inputs[0]);
        const DeviceArray<float> weight(ones);
        const DeviceBytes normed(int64_t{2} * rows * kWidth), want(int64_t{2} * rows * kWidth);
        CheckCuda(cudaDeviceSynchronize());
        absl::Status status = communicator.AllReduceAddRmsNorm(
            {residual.data(), ElementType::kFloat32, rows, kWidth},
            {delta.data(), ElementType::kBFloat16, rows, kWidth},
            {weight.data(), ElementType::kFloat32, 1, kWidth}, kEpsilon,
            {normed.data(), ElementType::kBFloat16, rows, kWidth});
        if (status.ok()) status.Update(rank.Sum(delta, cases[0].type, cases[0].elements));
        ASSERT_TRUE(status.ok()) << status;
        CheckCuda(LaunchRmsNorm(reinterpret_cast<float*>(apart.data()),
                                reinterpret_cast<const __nv_bfloat16*>(delta.data()), weight.data(),
                                kEpsilon, rows, kWidth,
                                reinterpret_cast<__nv_bfloat16*>(want.data()), rank.stream()));
        status.Update(rank.Wait());
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_EQ(FirstDifference(normed.Read(), want.Read(), ElementType::kBFloat16), "")
            << rows << " rows, rank " << communicator.rank() << " of " << size;
        ASSERT_EQ(FirstDifference(residual.Read(), apart.Read(), ElementType::kFloat32), "")
            << rows << " rows, rank " << communicator.rank() << " of " << size;
      });
    }
  }
}

TEST(NcclCommunicatorTest, SharedRowsBecomeWhatASumAndANormMakeOfThem) {
  if (Gpus() < 2) GTEST_SKIP() << "needs two GPUs";
  constexpr int kRows = 4096;
  constexpr int kWidth = 4096;
  constexpr float kEpsilon = 1e-5f;
  for (int size = 2; size <= Gpus(); ++size) {
    for (const int rows : {kRows, 64, 999}) {
      const std::vector<RankInputs> cases =
          RandomInputs(size, {int64_t{rows} * kWidth});  // bfloat16, float32
      const std::vector<float> ones(kWidth, 1.0f);
      RunGroup(size, Options(0, 1), [&](NcclRank& rank) {
        const int number = rank.communicator().rank();
        const auto shared = rank.communicator().ShareRows(kRows, kWidth);
        ASSERT_TRUE(shared.ok()) << shared.status();
        if (!ReachOneAnother(size)) GTEST_SKIP() << "GPUs that do not reach one another";
        ASSERT_TRUE(shared->has_value());
        const DeviceBytes delta(cases[0].inputs[number]);
        const DeviceBytes residual(cases[1].inputs[0]);
        const DeviceBytes share(cases[1].inputs[0]);
        const DeviceArray<float> weight(ones);
        const DeviceBytes want(int64_t{2} * rows * kWidth);
        absl::Status status = rank.communicator().Poll();
        ASSERT_TRUE(status.ok()) << status;
        const Tensor parts = {delta.data(), ElementType::kBFloat16, rows, kWidth};
        // The own part by a kernel, those of others by copy engines, on a stream of their own.
        cudaStream_t copies;
        cudaEvent_t copied;
        CheckCuda(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
        CheckCuda(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
        for (int peer = 0; peer < size; ++peer) {
          const RowShare part = ShareOfRows(rows, peer, size);
          ASSERT_LE(part.rows(), (*shared)->deltas[peer].rows);
          const void* const from = parts.Rows(part.begin, 0).data;
          void* const to = (*shared)->deltas[peer].data;
          if (peer == number) {
            // The sum of one rank is a copy.
            CheckCuda(LaunchRankOrderSum(from, 1, ElementType::kBFloat16, part.rows() * kWidth, to,
                                         rank.stream()));
          } else {
            CheckCuda(cudaMemcpyAsync(to, from, part.rows() * kWidth * int64_t{2},
                                      cudaMemcpyDefault, copies));
          }
        }
        CheckCuda(cudaEventRecord(copied, copies));
        CheckCuda(cudaStreamWaitEvent(rank.stream(), copied));
        status.Update(rank.communicator().SumAddRmsNorm(
            {share.data(), ElementType::kFloat32, rows, kWidth},
            {weight.data(), ElementType::kFloat32, 1, kWidth}, kEpsilon));
        if (status.ok()) status.Update(rank.Sum(delta, cases[0].type, cases[0].elements));
        ASSERT_TRUE(status.ok()) << status;
        CheckCuda(LaunchRmsNorm(reinterpret_cast<float*>(residual.data()),
                                reinterpret_cast<const __nv_bfloat16*>(delta.data()), weight.data(),
                                kEpsilon, rows, kWidth,
                                reinterpret_cast<__nv_bfloat16*>(want.data()), rank.stream()));
        status.Update(rank.Wait());
        CheckCuda(cudaEventDestroy(copied));
        CheckCuda(cudaStreamDestroy(copies));
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
    const NcclRank rank(shared, rendezvous);
    // The rank that finds it out first leaves, and the other may see that first.
    EXPECT_THAT(rank.status().code(),
                AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnavailable))
        << rank.status();
    if (absl::IsInvalidArgument(rank.status())) {
      EXPECT_THAT(std::string(rank.status().message()), HasSubstr("ranks 0 and 1 both use GPU-"));
    }
  });
}

}  // namespace
}  // namespace weir
