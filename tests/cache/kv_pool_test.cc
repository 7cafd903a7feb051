#include "cache/kv_pool.h"

#include <set>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(KvPoolTest, GivesEachBlockOnceThenIsExhausted) {
  KvPool pool(3);
  std::set<int> blocks;
  for (int i = 0; i < 3; ++i) {
    const absl::StatusOr<int> block = pool.Acquire();
    ASSERT_TRUE(block.ok());
    EXPECT_GE(*block, 0);
    EXPECT_LT(*block, 3);
    blocks.insert(*block);
  }
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_EQ(pool.used(), 3);

  const absl::Status full = pool.Acquire().status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(full.message(), HasSubstr("all 3 session caches"));
  EXPECT_EQ(pool.used(), 3);
}

TEST(KvPoolTest, GivesReleasedBlocksAgainLowestFirst) {
  KvPool pool(4);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(pool.Acquire().ok());
  pool.Release(3);
  pool.Release(1);
  EXPECT_EQ(pool.used(), 2);
  EXPECT_EQ(*pool.Acquire(), 1);
  EXPECT_EQ(*pool.Acquire(), 3);
  EXPECT_FALSE(pool.Acquire().ok());
}

TEST(KvPoolTest, SessionBytesOfLlama8B) {
  KvShape shape;
  shape.layers = 32;
  shape.kv_heads = 8;
  shape.head_dim = 128;
  shape.slots = 16384;
  const int64_t keys_and_values = int64_t{2} << 30;  // 2 GiB in bfloat16
  const int64_t scores_and_tokens = int64_t{32} * 8 * 16384 * 12;
  EXPECT_EQ(SessionBytes(shape, ElementType::kBFloat16), keys_and_values + scores_and_tokens);
  EXPECT_EQ(SessionBytes(shape, ElementType::kFloat32), 2 * keys_and_values + scores_and_tokens);
}

}  // namespace
}  // namespace weir
