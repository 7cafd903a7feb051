// Ranks are streams here: on one GPU all of them, and with several GPUs also one on each.

#include "kernels/cuda/peers/one_shot_add_norm.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/elementwise.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/norm_reference.h"
#include "tests/kernels/cuda/one_shot_group.h"
#include "tests/kernels/cuda/rank_devices.h"
#include "tests/kernels/cuda/rank_tensors.h"

namespace weir {
namespace {

constexpr float kEpsilon = 1e-5f;

// Parts of a sum, a residual and a weight, with their copies on the ranks' devices.
class Case {
 public:
  Case(std::mt19937& random, const OneShotGroup& group, int rows, int width)
      : group_(group), rows_(rows), width_(width) {
    std::normal_distribution<float> normal;
    for (int i = 0; i < width; ++i) weight_.push_back(normal(random));
    const Bytes residual = RandomTensor(random, ElementType::kFloat32, elements());
    residual_.resize(elements());
    std::memcpy(residual_.data(), residual.data(), residual.size());
    for (int rank = 0; rank < group.size(); ++rank) {
      deltas_.push_back(RandomTensor(random, ElementType::kBFloat16, elements()));
      group.Enter(rank);
      ranks_.push_back(std::make_unique<OnDevice>(deltas_.back(), residual_, weight_));
      CheckCuda(cudaDeviceSynchronize());
    }
  }

  void Launch(int rank) {
    const OneShotRanks ranks = group_.Enter(rank);
    OnDevice& memory = *ranks_[rank];
    const OneShotAddNorm work = {.rows = rows_,
                                 .width = width_,
                                 .delta = memory.delta.data(),
                                 .residual = memory.residual.data(),
                                 .weight = memory.weight.data(),
                                 .epsilon = kEpsilon,
                                 .normed = memory.normed.data()};
    ASSERT_TRUE(work.Fits());
    CheckCuda(LaunchOneShotAddNorm(ranks, work, group_.stream(rank)));
  }

  // That all ranks have done it `times` times. In double precision on the host, where it can be:
  // the residual is a sum of floats.
  void Check(int times = 1) {
    std::string wrong;
    const Bytes sums = SumInOrder(deltas_, ElementType::kBFloat16, &wrong);
    ASSERT_EQ(wrong, "");
    std::vector<float> residual = residual_;
    for (int64_t i = 0; i < elements(); ++i) {
      const float sum = static_cast<float>(ElementAt(sums, ElementType::kBFloat16, i));
      for (int time = 0; time < times; ++time) residual[i] += sum;
    }
    for (int rank = 0; rank < group_.size(); ++rank) {
      SCOPED_TRACE("rank " + std::to_string(rank));
      group_.Enter(rank);
      ASSERT_EQ(ranks_[rank]->residual.Read(), residual);
      const std::vector<__nv_bfloat16> normed = ranks_[rank]->normed.Read();
      ASSERT_EQ(WrongNorm(residual, weight_, kEpsilon, normed), "")
          << rows_ << " rows of " << width_;
      // The bits are those of the kernel that norms what is summed already.
      DeviceArray<float> summed(residual);
      DeviceArray<__nv_bfloat16> alone(elements());
      CheckCuda(LaunchRmsNorm(summed.data(), nullptr, ranks_[rank]->weight.data(), kEpsilon, rows_,
                              width_, alone.data(), nullptr));
      const std::vector<__nv_bfloat16> want = alone.Read();
      ASSERT_EQ(std::memcmp(normed.data(), want.data(), elements() * sizeof(want[0])), 0);
    }
  }

 private:
  struct OnDevice {
    OnDevice(const Bytes& parts, const std::vector<float>& residual_before,
             const std::vector<float>& weights)
        : delta(static_cast<int64_t>(parts.size() / sizeof(__nv_bfloat16))),
          normed(delta.size()),
          residual(residual_before),
          weight(weights) {
      CheckCuda(cudaMemcpy(delta.data(), parts.data(), parts.size(), cudaMemcpyHostToDevice));
      normed.FillBytes(0xff);
    }
    DeviceArray<__nv_bfloat16> delta, normed;
    DeviceArray<float> residual, weight;
  };

  int64_t elements() const { return int64_t{rows_} * width_; }

  const OneShotGroup& group_;
  const int rows_;
  const int width_;
  std::vector<Bytes> deltas_;  // by rank
  std::vector<float> residual_, weight_;
  std::vector<std::unique_ptr<OnDevice>> ranks_;
};

TEST(OneShotAddNormTest, AddsAndNormalisesRowsOfEveryShape) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    const bool one_gpu = devices.size() > 1 && devices[0] == devices[1];
    std::mt19937 random(1);
    OneShotGroup group(devices);
    struct Shape {
      int rows, width;
    };
    for (const Shape shape :
         {Shape{1, 8}, Shape{1, 4096}, Shape{3, 64}, Shape{5, 576}, Shape{2, 8200}, Shape{16, 4096},
          Shape{16, 8192}, Shape{64, 2048}, Shape{32, 4096}}) {
      // Ranks on one GPU wait for one another, so all their blocks must find room there at once.
      if (one_gpu && shape.rows > 16) continue;
      SCOPED_TRACE(Describe(devices) + ", " + std::to_string(shape.rows) + " rows of " +
                   std::to_string(shape.width));
      Case one(random, group, shape.rows, shape.width);
      for (int rank = 0; rank < group.size(); ++rank) one.Launch(rank);
      ASSERT_TRUE(group.Finish());
      one.Check();
      if (HasFatalFailure()) return;
    }
  }
}

// Calls of both kinds follow one another without a wait in between; they share inboxes and count
// as one.
TEST(OneShotAddNormTest, StandsAmongSums) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  constexpr int kCalls = 60;
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    SCOPED_TRACE(Describe(devices));
    std::mt19937 random(2);
    OneShotGroup group(devices);
    std::vector<std::unique_ptr<Case>> cases;
    std::vector<int64_t> lengths;
    std::vector<std::vector<std::unique_ptr<DeviceArray<float>>>> sums(group.size());
    for (int call = 0; call < kCalls; ++call) {
      cases.push_back(std::make_unique<Case>(random, group, 1 + static_cast<int>(random() % 12),
                                             8 * (1 + static_cast<int>(random() % 128))));
      lengths.push_back(1 + static_cast<int64_t>(random() % 3000));
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        sums[rank].push_back(std::make_unique<DeviceArray<float>>(
            std::vector<float>(lengths.back(), static_cast<float>(call + rank))));
        CheckCuda(cudaDeviceSynchronize());
      }
    }
    for (int rank = 0; rank < group.size(); ++rank) {
      for (int call = 0; call < kCalls; ++call) {
        cases[call]->Launch(rank);
        const OneShotRanks ranks = group.Enter(rank);
        CheckCuda(LaunchOneShotSum(ranks, sums[rank][call]->data(), ElementType::kFloat32,
                                   lengths[call], group.stream(rank)));
      }
    }
    ASSERT_TRUE(group.Finish());
    for (int call = 0; call < kCalls; ++call) {
      SCOPED_TRACE("call " + std::to_string(call));
      cases[call]->Check();
      if (HasFatalFailure()) return;
      const int size = group.size();
      const float want = static_cast<float>(size * call + size * (size - 1) / 2);
      for (int rank = 0; rank < size; ++rank) {
        group.Enter(rank);
        ASSERT_EQ(sums[rank][call]->Read(), std::vector<float>(lengths[call], want));
      }
    }
  }
}

TEST(OneShotAddNormTest, AGraphMayBeReplayed) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  constexpr int kCalls = 8;
  constexpr int kReplays = 200;
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    SCOPED_TRACE(Describe(devices));
    std::mt19937 random(4);
    OneShotGroup group(devices);
    std::vector<std::unique_ptr<Case>> cases;
    for (int call = 0; call < kCalls; ++call) {
      cases.push_back(std::make_unique<Case>(random, group, 1 + static_cast<int>(random() % 12),
                                             8 * (1 + static_cast<int>(random() % 128))));
    }
    std::vector<std::unique_ptr<CapturedGraph>> graphs;
    for (int rank = 0; rank < group.size(); ++rank) {
      group.Enter(rank);
      graphs.push_back(std::make_unique<CapturedGraph>(group.stream(rank), [&] {
        for (const std::unique_ptr<Case>& one : cases) one->Launch(rank);
      }));
    }
    for (int replay = 0; replay < kReplays; ++replay) {
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        graphs[rank]->Launch(group.stream(rank));
      }
      // A stream takes only so much before the host has to wait.
      if (replay % 50 == 49) {
        ASSERT_TRUE(group.Finish());
      }
    }
    for (const std::unique_ptr<Case>& one : cases) one->Check(kReplays);
    if (HasFatalFailure()) return;
  }
}

TEST(OneShotAddNormTest, AbortEndsAWaitForARankThatNeverComes) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(3);
  OneShotGroup group({0, 0});
  Case one(random, group, 4, 512);
  one.Launch(0);
  EXPECT_FALSE(group.Finish(std::chrono::seconds(1)));
  EXPECT_TRUE(group.Idle(0));
}

}  // namespace
}  // namespace weir
