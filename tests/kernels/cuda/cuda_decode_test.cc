// A session decodes to the same bits alone and in company, and over caches of any length to what a
// chunk gives.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"

namespace weir {
namespace {

constexpr int kTokens = 500;

// Sessions of one layer, whose queries, keys and values are looked up by token.
class CudaDecodeTest : public CudaBackendTest {
 protected:
  void Start(int sessions, int kv_heads, int group, int head_dim, const CascadeConfig& cascade) {
    const KvShape shape = {.layers = 1,
                           .kv_heads = kv_heads,
                           .query_heads = kv_heads * group,
                           .head_dim = head_dim,
                           .sessions = sessions,
                           .slots = cascade.total_slots(),
                           .max_step_rows = cascade.stride + sessions,
                           .max_stride = cascade.stride};
    const RopeTable rope = MakeRopeTable(head_dim, static_cast<int>(RotationsNeeded(cascade)));
    out_width_ = kv_heads * group * head_dim;
    const int qkv_width = out_width_ + 2 * kv_heads * head_dim;
    kv_ = backend_->AllocateKv(shape, rope).value();
    step_ = backend_->AllocateStep(shape, cascade.stride, sessions).value();
    table_ = MakeMatrix(RandomBFloat16s(random_, int64_t{kTokens} * qkv_width, 1.2f), qkv_width);
    qkv_ = Poisoned(shape.max_step_rows, qkv_width);
    out_ = Poisoned(shape.max_step_rows, out_width_);
    row_scores_ = Allocate(ElementType::kFloat32, kv_heads, shape.max_step_rows);
    for (int i = 0; i < sessions; ++i) sessions_.emplace_back(i, cascade);
  }

  std::vector<int32_t> RandomTokens(int count) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random_() % kTokens);
    return tokens;
  }

  // The sessions [first, first + count) read as many tokens each. Returns what attention gives.
  std::vector<float> Step(int first, int count, const std::vector<int32_t>& tokens) {
    const int rows = static_cast<int>(tokens.size()) / count;
    std::vector<SequenceStep> steps;
    for (int i = 0; i < count; ++i) steps.push_back(sessions_[first + i].Plan(i * rows, rows));
    const int padded = rows > 1 ? rows : backend_->PaddedRows(count);
    const Tensor qkv = qkv_.Rows(0, padded);
    backend_->LoadStep(tokens, steps, *step_);
    backend_->Embed(*table_, *step_, qkv);
    backend_->Attend(*kv_, 0, *step_, qkv, out_.Rows(0, padded), row_scores_);
    backend_->Admit(*kv_, 0, *step_, qkv, row_scores_);
    for (int i = 0; i < count; ++i) sessions_[first + i].Commit(steps[i]);
    return Read(out_.Rows(0, static_cast<int64_t>(tokens.size())));
  }

  std::mt19937 random_{21};
  int out_width_ = 0;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  std::unique_ptr<Matrix> table_;
  Tensor qkv_, out_, row_scores_;
  std::vector<KvCache> sessions_;
};

// With three splits of the keys, one session has 24 or 48 blocks, fewer than a GPU has
// multiprocessors, and all of them have more than any has: attention shares out their work
// otherwise.
constexpr int kKvHeads = 8;
constexpr int kSessions = 32;
constexpr int kTwin = 17;  // reads what session 0 reads

// By query heads of a KV head, and head_dim.
class CudaCompanyTest : public CudaDecodeTest,
                        public testing::WithParamInterface<std::tuple<int, int>> {};

TEST_P(CudaCompanyTest, DecodesToTheSameBitsAsAlone) {
  const auto [group, head_dim] = GetParam();
  const CascadeConfig cascade = {.sinks = 7, .slots = 1200, .sub_caches = 3, .stride = 400};
  Start(kSessions, kKvHeads, group, head_dim, cascade);
  std::set<int> cached;
  // From empty; to where the token's own key begins a share, and a split; and full.
  for (const int slots : {0, 446, 510, 1023, cascade.total_slots()}) {
    while (sessions_[0].filled_slots() < slots) {
      const int missing = slots - sessions_[0].filled_slots();
      const std::vector<int32_t> tokens = RandomTokens(std::min(missing, cascade.stride));
      for (int i = 0; i < kSessions; ++i) {
        const bool twin = i == 0 || i == kTwin;
        Step(i, 1, twin ? tokens : RandomTokens(1 + static_cast<int>(random_() % 150)));
      }
    }
    const int steps = slots == cascade.total_slots() ? 40 : 8;  // some with contests
    for (int i = 0; i < steps; ++i) {
      SCOPED_TRACE(testing::Message() << sessions_[0].filled_slots() << " slots are filled");
      cached.insert(sessions_[0].filled_slots());
      const std::vector<int32_t> tokens = RandomTokens(kSessions - 1);
      const std::vector<float> alone = Step(0, 1, {tokens[kTwin - 1]});
      const std::vector<float> company = Step(1, kSessions - 1, tokens);
      const auto twin = company.begin() + int64_t{kTwin - 1} * out_width_;
      ASSERT_EQ(std::vector<float>(twin, twin + out_width_), alone);
      ASSERT_NE(std::vector<float>(company.begin(), company.begin() + out_width_), alone);
    }
  }
  for (const int slots : {0, 448, 512, 1024}) EXPECT_TRUE(cached.contains(slots)) << slots;
  for (int head = 0; head < kKvHeads; ++head) {
    const SlotContents alone = kv_->Read(0, 0, head);
    const SlotContents twin = kv_->Read(kTwin, 0, head);
    EXPECT_EQ(twin.tokens, alone.tokens);
    EXPECT_EQ(twin.scores, alone.scores);
  }
}

INSTANTIATE_TEST_SUITE_P(GroupsAndHeadDims, CudaCompanyTest,
                         testing::Combine(testing::Values(1, 4, 11), testing::Values(64, 128)));

struct LongCache {
  int slots, tokens, head_dim;
};

class CudaLongCacheTest : public CudaDecodeTest, public testing::WithParamInterface<LongCache> {};

// A token alone is attended to by other kernels than two that are read together.
TEST_P(CudaLongCacheTest, DecodesToWhatAChunkGives) {
  const auto [slots, tokens, head_dim] = GetParam();
  Start(2, /*kv_heads=*/2, /*group=*/6, head_dim,
        {.sinks = 8, .slots = slots, .sub_caches = 4, .stride = 4096});
  for (int read = 0; read < tokens;) {
    const std::vector<int32_t> chunk = RandomTokens(std::min(4096, tokens - read));
    for (const int session : {0, 1}) Step(session, 1, chunk);
    read += static_cast<int>(chunk.size());
  }
  const std::vector<int32_t> next = RandomTokens(2);
  const std::vector<float> decoded = Step(0, 1, {next[0]});
  const std::vector<float> chunk = Step(1, 1, next);
  EXPECT_LT(RelativeError(decoded, {chunk.begin(), chunk.begin() + out_width_}), 0.02);
}

// Full caches whose splits one warp adds up, a block at once, and a block in several rounds; and
// caches with room left.
INSTANTIATE_TEST_SUITE_P(Lengths, CudaLongCacheTest,
                         testing::Values(LongCache{4400, 9000, 64}, LongCache{4400, 9000, 128},
                                         LongCache{5000, 10000, 64}, LongCache{5000, 10000, 128},
                                         LongCache{5000, 700, 128}, LongCache{20000, 30000, 64},
                                         LongCache{20000, 30000, 128},
                                         LongCache{20000, 19000, 128}));

}  // namespace
}  // namespace weir
