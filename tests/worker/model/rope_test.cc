#include "worker/model/rope.h"

#include <cmath>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(RopeTest, AnglesAreExactInDoublePrecision) {
  LlamaConfig config;
  config.head_dim = 64;
  config.rope_base = 100000;
  const RopeTable table = MakeRopeTable(config, 9000);
  EXPECT_EQ(table.rotations, 9000);
  EXPECT_EQ(table.head_dim, 64);
  ASSERT_EQ(table.cos.size(), 9000u * 32);
  ASSERT_EQ(table.sin.size(), 9000u * 32);
  for (int rotation : {0, 1, 77, 8999}) {
    for (int i = 0; i < 32; ++i) {
      const long double angle = rotation / std::pow(100000.0L, i / 32.0L);
      EXPECT_NEAR(table.cos[rotation * 32 + i], std::cos(angle), 1e-7);
      EXPECT_NEAR(table.sin[rotation * 32 + i], std::sin(angle), 1e-7);
    }
  }
}

TEST(RopeTest, ScaleAndDivisorsSlowTheRotation) {
  LlamaConfig config;
  config.head_dim = 4;
  config.rope_base = 100;
  config.rope_scale = 2;
  config.rope_divisors = {1, 8};
  const RopeTable table = MakeRopeTable(config, 2);
  EXPECT_NEAR(table.sin[2], std::sin(0.5), 1e-7);
  EXPECT_NEAR(table.sin[3], std::sin(0.1 / 2 / 8), 1e-7);
}

}  // namespace
}  // namespace weir
