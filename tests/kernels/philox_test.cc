#include "kernels/philox.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <set>

#include "gtest/gtest.h"
#include "kernels/gumbel.h"

namespace weir {
namespace {

// The known answers that come with the authors' Random123 library.
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformRandomDependsOnSeedAndIndex) {
  std::set<double> seen;
  double sum = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    for (uint64_t index = 0; index < 100; ++index) {
      const double value = UniformRandom(seed << 28, index << 28);
      ASSERT_GE(value, 0);
      ASSERT_LT(value, 1);
      seen.insert(value);
      sum += value;
    }
  }
  EXPECT_EQ(seen.size(), 4000u);
  EXPECT_NEAR(sum / 4000, 0.5, 0.02);
}

TEST(GumbelTest, EveryWordHasAFiniteVariate) {
  float before = 0;
  for (uint64_t word = 0; word < uint64_t{1} << 32; word += 65535) {
    const float v = GumbelUniform(static_cast<uint32_t>(word));
    ASSERT_GT(v, before);
    ASSERT_LT(v, 1.0f);
    before = v;
    const double variate = -std::log(-std::log1p(-double{v}));
    ASSERT_NEAR(PerturbedLogit(0, 1, v), variate, 1e-6 * std::abs(variate) + 1e-6) << word;
  }
  EXPECT_GT(PerturbedLogit(0, 1, GumbelUniform(0)), 22.0f);
  EXPECT_LT(PerturbedLogit(0, 1, GumbelUniform(~0u)), -2.5f);
  EXPECT_GT(PerturbedLogit(0, 1, GumbelUniform(~0u)), -3.0f);
}

// Mean and variance of the Gumbel distribution, over tokens, indices and seeds.
TEST(GumbelTest, VariatesAreGumbels) {
  double sum = 0;
  double squares = 0;
  int count = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (uint64_t index = 0; index < 20; ++index) {
      for (uint32_t quad = 0; quad < 50; ++quad) {
        for (uint32_t word : GumbelWords(seed << 30, index << 30, quad)) {
          const double variate = PerturbedLogit(0, 1, GumbelUniform(word));
          sum += variate;
          squares += variate * variate;
          ++count;
        }
      }
    }
  }
  const double mean = sum / count;
  EXPECT_NEAR(mean, 0.5772157, 0.02);
  EXPECT_NEAR(squares / count - mean * mean, 1.6449341, 0.06);
}

}  // namespace
}  // namespace weir
