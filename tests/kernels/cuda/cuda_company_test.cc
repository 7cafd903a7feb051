// A session decodes to the same bits alone and among so many that attention's work is shared out
// otherwise.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"

namespace weir {
namespace {

constexpr int kKvHeads = 2;
// Of three splits' keys each: one alone leaves most multiprocessors idle, and all together do not.
constexpr int kSessions = 32;

class CudaCompanyTest : public CudaBackendTest,
                        public testing::WithParamInterface<std::tuple<int, int>> {
 protected:
  int group() const { return std::get<0>(GetParam()); }
  int head_dim() const { return std::get<1>(GetParam()); }
  int query_heads() const { return kKvHeads * group(); }
  int width() const { return (query_heads() + 2 * kKvHeads) * head_dim(); }

  void Start() {
    shape_ = {.layers = 1,
              .kv_heads = kKvHeads,
              .query_heads = query_heads(),
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
    kv_ = backend_->AllocateKv(shape_, rope).value();
    step_ = backend_->AllocateStep(shape_, cascade_.stride, kSessions).value();
    out_ = Poisoned(shape_.max_step_rows, query_heads() * head_dim());
    for (int i = 0; i < kSessions; ++i) sessions_.emplace_back(i, cascade_);
  }

  // The sessions from `first` on, `count` of them, take a step of `rows` rows each, which begin
  // with `in`. Returns what attention gives them.
  std::vector<float> Step(int first, int count, int rows, Tensor in) {
    std::vector<SequenceStep> steps;
    for (int i = 0; i < count; ++i) steps.push_back(sessions_[first + i].Plan(i * rows, rows));
    backend_->LoadStep(std::vector<int32_t>(count * rows), steps, *step_);
    const Tensor out = out_.Rows(0, in.rows);
    const Tensor row_scores = Allocate(ElementType::kFloat32, kKvHeads, in.rows);
    backend_->Attend(*kv_, 0, *step_, in, out, row_scores);
    backend_->Admit(*kv_, 0, *step_, in, row_scores);
    for (int i = 0; i < count; ++i) sessions_[first + i].Commit(steps[i]);
    return Read(out_.Rows(0, int64_t{count} * rows));
  }
  // `count` rows, all the same, and whatever a step of so many has besides.
  Tensor SameRows(std::mt19937& random, int count) {
    const std::vector<float> row = RandomBFloat16s(random, width(), 1.2f);
    std::vector<float> rows(int64_t{backend_->PaddedRows(count)} * width());
    for (int i = 0; i < count; ++i) {
      std::copy(row.begin(), row.end(), rows.begin() + int64_t{i} * width());
    }
    return MakeTensor(rows, width());
  }

  const CascadeConfig cascade_ = {.sinks = 7, .slots = 1200, .sub_caches = 3, .stride = 400};
  KvShape shape_;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  Tensor out_;
  std::vector<KvCache> sessions_;
};

TEST_P(CudaCompanyTest, DecodesToTheSameBitsAsAlone) {
  std::mt19937 random(21);
  Start();
  // Caches that are filling, with keys for some of a split only, and full ones.
  for (const int chunks : {0, 1, 2, 6}) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int rows = cascade_.stride - 3 * chunk;
      const Tensor in = MakeTensor(RandomBFloat16s(random, int64_t{rows} * width(), 1.2f), width());
      for (int i = 0; i < kSessions; ++i) Step(i, 1, rows, in);
    }
    for (int token = 0; token < 8; ++token) {
      SCOPED_TRACE(testing::Message() << sessions_[0].filled_slots() << " slots are filled");
      const Tensor in = SameRows(random, kSessions - 1);
      const std::vector<float> alone = Step(0, 1, 1, in.Rows(0, backend_->PaddedRows(1)));
      const std::vector<float> together = Step(1, kSessions - 1, 1, in);
      for (int i = 0; i < kSessions - 1; ++i) {
        const auto begin = together.begin() + static_cast<int64_t>(i * alone.size());
        ASSERT_EQ(std::vector<float>(begin, begin + static_cast<int64_t>(alone.size())), alone);
      }
    }
  }
  for (int head = 0; head < kKvHeads; ++head) {
    const SlotContents alone = kv_->Read(0, 0, head);
    for (int i = 1; i < kSessions; ++i) {
      const SlotContents together = kv_->Read(i, 0, head);
      ASSERT_EQ(together.tokens, alone.tokens);
      ASSERT_EQ(together.scores, alone.scores);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(GroupsAndHeadDims, CudaCompanyTest,
                         testing::Combine(testing::Values(1, 4, 11), testing::Values(64, 128)));

}  // namespace
}  // namespace weir
