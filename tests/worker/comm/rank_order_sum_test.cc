#include "worker/comm/rank_order_sum.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(SumInRankOrderTest, AddsFromTheFirstToTheLastAndMayOverwriteAPart) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1000, 1000);
  for (const int64_t count : {0, 1, 511, 512, 513, 2000}) {
    for (int ranks = 1; ranks <= 5; ++ranks) {
      for (int own = 0; own < ranks; ++own) {
        std::vector<std::vector<float>> values(ranks, std::vector<float>(count));
        std::vector<const float*> parts;
        for (std::vector<float>& part : values) {
          for (float& value : part) value = uniform(random);
          parts.push_back(part.data());
        }
        std::vector<float> expected(count);
        for (int64_t i = 0; i < count; ++i) {
          float sum = values[0][i];
          for (int rank = 1; rank < ranks; ++rank) sum = sum + values[rank][i];
          expected[i] = sum;
        }
        SumInRankOrder(parts, count, values[own].data());
        ASSERT_EQ(values[own], expected);
      }
    }
  }
}

}  // namespace
}  // namespace weir
