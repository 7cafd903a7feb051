// A session decodes to the same bits alone and in company.

#include <algorithm>
#include <cmath>
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

// With three splits of the keys, one session has 24 or 48 blocks, fewer than a GPU has
// multiprocessors, and all of them have more than any has: attention shares out their work
// otherwise.
constexpr int kKvHeads = 8;
constexpr int kSessions = 32;
constexpr int kTwin = 17;  // reads what session 0 reads
constexpr int kTokens = 500;

class CudaCompanyTest : public CudaBackendTest,
                        public testing::WithParamInterface<std::tuple<int, int>> {
 protected:
  int group() const { return std::get<0>(GetParam()); }
  int head_dim() const { return std::get<1>(GetParam()); }
  int out_width() const { return kKvHeads * group() * head_dim(); }
  int qkv_width() const { return out_width() + 2 * kKvHeads * head_dim(); }

  void Start() {
    const KvShape shape = {.layers = 1,
                           .kv_heads = kKvHeads,
                           .query_heads = kKvHeads * group(),
                           .head_dim = head_dim(),
                           .sessions = kSessions,
                           .slots = cascade_.total_slots(),
                           .max_step_rows = cascade_.stride + kSessions,
                           .max_stride = cascade_.stride};
    RopeTable rope = {.rotations = static_cast<int>(RotationsNeeded(cascade_)),
                      .head_dim = head_dim()};
    for (int i = 0; i < rope.rotations * head_dim() / 2; ++i) {
      rope.cos.push_back(std::cos(static_cast<float>(i)));
      rope.sin.push_back(std::sin(static_cast<float>(i)));
    }
    kv_ = backend_->AllocateKv(shape, rope).value();
    step_ = backend_->AllocateStep(shape, cascade_.stride, kSessions).value();
    table_ =
        MakeMatrix(RandomBFloat16s(random_, int64_t{kTokens} * qkv_width(), 1.2f), qkv_width());
    qkv_ = Poisoned(shape.max_step_rows, qkv_width());
    out_ = Poisoned(shape.max_step_rows, out_width());
    row_scores_ = Allocate(ElementType::kFloat32, kKvHeads, shape.max_step_rows);
    for (int i = 0; i < kSessions; ++i) sessions_.emplace_back(i, cascade_);
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

  const CascadeConfig cascade_ = {.sinks = 7, .slots = 1200, .sub_caches = 3, .stride = 400};
  std::mt19937 random_{21};
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  std::unique_ptr<Matrix> table_;
  Tensor qkv_, out_, row_scores_;
  std::vector<KvCache> sessions_;
};

TEST_P(CudaCompanyTest, DecodesToTheSameBitsAsAlone) {
  Start();
  std::set<int> cached;
  // From empty; to where the token's own key begins a share, and a split; and full.
  for (const int slots : {0, 446, 510, 1023, cascade_.total_slots()}) {
    while (sessions_[0].filled_slots() < slots) {
      const int missing = slots - sessions_[0].filled_slots();
      const std::vector<int32_t> tokens = RandomTokens(std::min(missing, cascade_.stride));
      for (int i = 0; i < kSessions; ++i) {
        const bool twin = i == 0 || i == kTwin;
        Step(i, 1, twin ? tokens : RandomTokens(1 + static_cast<int>(random_() % 150)));
      }
    }
    const int steps = slots == cascade_.total_slots() ? 40 : 8;  // some with contests
    for (int i = 0; i < steps; ++i) {
      SCOPED_TRACE(testing::Message() << sessions_[0].filled_slots() << " slots are filled");
      cached.insert(sessions_[0].filled_slots());
      const std::vector<int32_t> tokens = RandomTokens(kSessions - 1);
      const std::vector<float> alone = Step(0, 1, {tokens[kTwin - 1]});
      const std::vector<float> company = Step(1, kSessions - 1, tokens);
      const auto twin = company.begin() + int64_t{kTwin - 1} * out_width();
      ASSERT_EQ(std::vector<float>(twin, twin + out_width()), alone);
      ASSERT_NE(std::vector<float>(company.begin(), company.begin() + out_width()), alone);
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

}  // namespace
}  // namespace weir
