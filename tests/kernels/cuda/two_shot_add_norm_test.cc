// Ranks are streams here: on one GPU all of them, and with several GPUs also one on each.

#include "kernels/cuda/peers/two_shot_add_norm.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/row_share.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/norm_reference.h"
#include "tests/kernels/cuda/plain_copy.h"
#include "tests/kernels/cuda/rank_devices.h"
#include "tests/kernels/cuda/rank_tensors.h"
#include "tests/kernels/cuda/two_shot_group.h"

namespace weir {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr float kEpsilon = 1e-5f;

// Ranks on one GPU wait for one another, so all their blocks, one for two rows at most, must find
// room there at once.
constexpr int kMostRowsOnOneGpu = 200;

// Parts of a sum, a residual and a weight, and on the host what becomes of them.
struct Case {
  Case(std::mt19937& random, const SharedShape& shape, int ranks) : shape(shape) {
    for (int rank = 0; rank < ranks; ++rank) {
      deltas.push_back(RandomTensor(random, ElementType::kBFloat16, shape.elements()));
    }
    const Bytes bytes = RandomTensor(random, ElementType::kFloat32, shape.elements());
    residual.resize(shape.elements());
    std::memcpy(residual.data(), bytes.data(), bytes.size());
    std::normal_distribution<float> normal;
    for (int i = 0; i < shape.width; ++i) weight.push_back(normal(random));
  }

  // residual += the sum.
  void Add() {
    std::string wrong;
    const Bytes sums = SumInOrder(deltas, ElementType::kBFloat16, &wrong);
    ASSERT_EQ(wrong, "");
    for (int64_t i = 0; i < shape.elements(); ++i) {
      residual[i] += static_cast<float>(ElementAt(sums, ElementType::kBFloat16, i));
    }
  }

  // Where `got`, whose first rows count, is not the norm of the residual; empty if nowhere.
  std::string WrongNormOf(const std::vector<__nv_bfloat16>& got) const {
    return WrongNorm(residual, weight, kEpsilon, got);
  }

  SharedShape shape;
  std::vector<Bytes> deltas;  // by rank
  std::vector<float> residual;
  std::vector<float> weight;
};

bool SameBits(const std::vector<__nv_bfloat16>& a, const std::vector<__nv_bfloat16>& b,
              int64_t elements) {
  return std::memcmp(a.data(), b.data(), elements * sizeof(a[0])) == 0;
}

TEST(TwoShotAddNormTest, AddsAndNormalisesRowsOfEveryShape) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  for (const std::vector<int>& devices : RankDevices(kTwoShotMostRanks)) {
    const bool one_gpu = devices.size() == 1 || devices[0] == devices[1];
    for (const SharedShape& shape :
         {SharedShape{1, 8}, SharedShape{3, 64}, SharedShape{64, 576}, SharedShape{101, 4096},
          SharedShape{9, 8200}, SharedShape{7, 16384}, SharedShape{4096, 4096}}) {
      if (one_gpu && shape.rows > kMostRowsOnOneGpu) continue;
      SCOPED_TRACE(Describe(devices) + ", " + std::to_string(shape.rows) + " rows of " +
                   std::to_string(shape.width));
      std::mt19937 random(1);
      TwoShotGroup group(devices, shape);
      Case one(random, shape, group.size());
      std::vector<std::unique_ptr<DeviceArray<__nv_bfloat16>>> deltas;
      std::vector<std::unique_ptr<DeviceArray<float>>> weights;
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        SharedRowsOfRank& memory = group.memory(rank);
        weights.push_back(std::make_unique<DeviceArray<float>>(one.weight));
        deltas.push_back(std::make_unique<DeviceArray<__nv_bfloat16>>(shape.elements()));
        CheckCuda(cudaMemcpy(deltas.back()->data(), one.deltas[rank].data(), deltas.back()->bytes(),
                             cudaMemcpyHostToDevice));
        CheckCuda(cudaMemcpy(memory.residual.data(), one.residual.data(), memory.residual.bytes(),
                             cudaMemcpyHostToDevice));
        CheckCuda(cudaDeviceSynchronize());
      }
      for (int rank = 0; rank < group.size(); ++rank) {
        group.WriteParts(rank, deltas[rank]->data(), shape);
        group.Launch(rank, weights[rank]->data(), kEpsilon, shape);
      }
      ASSERT_TRUE(group.Finish());
      const std::vector<float> before = one.residual;
      one.Add();
      const std::vector<__nv_bfloat16> normed = group.memory(0).normed.Read();
      ASSERT_EQ(one.WrongNormOf(normed), "");
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        ASSERT_TRUE(SameBits(group.memory(rank).normed.Read(), normed, shape.elements()))
            << "rank " << rank;
        // Of its own rows; the others are as before.
        const std::vector<float> residual = group.memory(rank).residual.Read();
        const RowShare share = ShareOfRows(shape.rows, rank, group.size());
        for (int64_t i = 0; i < shape.elements(); ++i) {
          const int64_t row = i / shape.width;
          const bool own = row >= share.begin && row < share.end;
          const float want = own ? one.residual[i] : before[i];
          ASSERT_EQ(residual[i], want) << "rank " << rank << ", element " << i;
        }
        // The bits are those of the kernel that norms what is summed already.
        DeviceArray<float> summed(one.residual);
        DeviceArray<__nv_bfloat16> alone(shape.elements());
        CheckCuda(LaunchRmsNorm(summed.data(), nullptr, weights[rank]->data(), kEpsilon, shape.rows,
                                shape.width, alone.data(), nullptr));
        ASSERT_TRUE(SameBits(alone.Read(), normed, shape.elements())) << "rank " << rank;
      }
    }
  }
}

// Calls of many lengths without a wait in between: what ranks write for one call, into slabs and
// normed rows, must not meet what others still read of the one before.
TEST(TwoShotAddNormTest, RanksThatRunAheadDoNotOverwriteWhatIsStillRead) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  constexpr int kCalls = 100;
  constexpr int kWidth = 1024;
  for (const std::vector<int>& devices : RankDevices(kTwoShotMostRanks)) {
    SCOPED_TRACE(Describe(devices));
    std::mt19937 random(2);
    const SharedShape most = {kMostRowsOnOneGpu, kWidth};
    TwoShotGroup group(devices, most);
    std::vector<Case> cases;
    for (int call = 0; call < kCalls; ++call) {
      const int rows = 1 + static_cast<int>(random() % most.rows);
      cases.emplace_back(random, SharedShape{rows, kWidth}, group.size());
    }
    // By call and rank.
    std::vector<std::vector<std::unique_ptr<DeviceArray<__nv_bfloat16>>>> deltas(kCalls);
    std::vector<std::vector<std::unique_ptr<DeviceArray<__nv_bfloat16>>>> normed(kCalls);
    std::vector<std::vector<std::unique_ptr<DeviceArray<float>>>> residuals(kCalls);
    std::vector<std::unique_ptr<DeviceArray<float>>> weights;
    for (int rank = 0; rank < group.size(); ++rank) {
      group.Enter(rank);
      weights.push_back(std::make_unique<DeviceArray<float>>(cases[0].weight));
      for (int call = 0; call < kCalls; ++call) {
        Case& one = cases[call];
        one.weight = cases[0].weight;
        const int64_t elements = one.shape.elements();
        deltas[call].push_back(std::make_unique<DeviceArray<__nv_bfloat16>>(elements));
        CheckCuda(cudaMemcpy(deltas[call].back()->data(), one.deltas[rank].data(),
                             one.deltas[rank].size(), cudaMemcpyHostToDevice));
        normed[call].push_back(std::make_unique<DeviceArray<__nv_bfloat16>>(elements));
        residuals[call].push_back(std::make_unique<DeviceArray<float>>(one.residual));
      }
      CheckCuda(cudaDeviceSynchronize());
    }
    // Call by call: a stream takes only so much before the host has to wait, and a rank's kernels
    // wait for those of the others.
    for (int call = 0; call < kCalls; ++call) {
      const int64_t elements = cases[call].shape.elements();
      for (int rank = 0; rank < group.size(); ++rank) {
        SharedRowsOfRank& memory = group.memory(rank);
        const auto copy = [&](void* to, const void* from, int64_t element_bytes) {
          CheckCuda(LaunchPlainCopy(to, from, elements * element_bytes, group.stream(rank)));
        };
        group.Enter(rank);
        copy(memory.residual.data(), residuals[call][rank]->data(), sizeof(float));
        group.WriteParts(rank, deltas[call][rank]->data(), cases[call].shape);
        group.Launch(rank, weights[rank]->data(), kEpsilon, cases[call].shape);
        copy(normed[call][rank]->data(), memory.normed.data(), sizeof(__nv_bfloat16));
      }
    }
    ASSERT_TRUE(group.Finish());
    for (int call = 0; call < kCalls; ++call) {
      cases[call].Add();
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        ASSERT_EQ(cases[call].WrongNormOf(normed[call][rank]->Read()), "")
            << "call " << call << ", rank " << rank;
      }
    }
  }
}

TEST(TwoShotAddNormTest, AbortEndsAWaitForARankThatNeverComes) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const SharedShape shape = {64, 512};
  TwoShotGroup group({0, 0}, shape);
  group.memory(0).normed.FillBytes(0x11);
  group.memory(1).normed.FillBytes(0x11);
  const DeviceArray<float> weight(std::vector<float>(shape.width, 1.0f));
  CheckCuda(cudaDeviceSynchronize());
  for (int call = 0; call < 3; ++call) group.Launch(0, weight.data(), kEpsilon, shape);
  EXPECT_FALSE(group.Finish(std::chrono::seconds(1)));
  ASSERT_TRUE(group.Idle(0));
  // It has written nothing, here or there, and waits for nothing any more.
  group.Launch(0, weight.data(), kEpsilon, shape);
  ASSERT_TRUE(group.Finish());
  for (int rank = 0; rank < 2; ++rank) {
    for (const __nv_bfloat16 value : group.memory(rank).normed.Read()) {
      ASSERT_EQ(__bfloat16_as_ushort(value), 0x1111);
    }
  }
  EXPECT_EQ(group.memory(0).gave_up.Read()[0], 1u);
}

}  // namespace
}  // namespace weir
