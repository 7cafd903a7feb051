#include "kernels/cuda/peers/rank_order_sum.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/rank_tensors.h"

namespace weir {
namespace {

TEST(RankOrderSumTest, AddsFromTheFirstToTheLast) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(11);
  for (const ElementType type : {ElementType::kFloat32, ElementType::kBFloat16}) {
    const int64_t bytes = ElementBytes(type);
    for (const int ranks : {1, 2, 3, 8, 11}) {
      // The last has more groups than there are threads.
      for (const int64_t elements : {1, 2, 3, 5, 8, 1001, 4096, 1500003}) {
        SCOPED_TRACE(std::to_string(elements) + " of " + std::to_string(bytes) + " bytes, " +
                     std::to_string(ranks) + " ranks");
        std::vector<std::vector<uint8_t>> inputs;
        std::vector<uint8_t> parts;
        for (int rank = 0; rank < ranks; ++rank) {
          inputs.push_back(RandomTensor(random, type, elements));
          parts.insert(parts.end(), inputs[rank].begin(), inputs[rank].end());
        }
        std::string wrong;
        std::vector<uint8_t> want = SumInOrder(inputs, type, &wrong);
        ASSERT_EQ(wrong, "");
        const DeviceArray<uint8_t> device_parts(parts);
        // From the second element on, as a share of a tensor may begin anywhere.
        DeviceArray<uint8_t> device_out(bytes * (elements + 2));
        device_out.FillBytes(0xff);
        CheckCuda(LaunchRankOrderSum(device_parts.data(), ranks, type, elements,
                                     device_out.data() + bytes, nullptr));
        const std::vector<uint8_t> around(bytes, 0xff);
        want.insert(want.begin(), around.begin(), around.end());
        want.insert(want.end(), around.begin(), around.end());
        ASSERT_EQ(FirstDifference(device_out.Read(), want, type), "");
      }
    }
  }
}

}  // namespace
}  // namespace weir
