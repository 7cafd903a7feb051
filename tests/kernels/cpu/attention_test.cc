// Attend and Admit together, over many steps, against the cascade told one token at a time in
// double precision. Scores are checked to float32's accuracy; then the reference takes over the
// backend's own scores, so that every admission must agree exactly.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "kernels/backend.h"
#include "tests/kernels/cpu/test_tensors.h"
#include "tests/testing/naive_cascade.h"

namespace weir {
namespace {

struct Shape {
  int layers;
  int kv_heads;
  int group;
  int head_dim;

  int query_heads() const { return kv_heads * group; }
  int qkv_cols() const { return (query_heads() + 2 * kv_heads) * head_dim; }
};

std::vector<double> Rotated(const std::vector<double>& x, int position) {
  const int half = static_cast<int>(x.size()) / 2;
  std::vector<double> rotated(x.size());
  for (int i = 0; i < half; ++i) {
    const double angle = RopeAngle(2 * half, position, i);
    rotated[i] = x[i] * std::cos(angle) - x[i + half] * std::sin(angle);
    rotated[i + half] = x[i + half] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return rotated;
}

NaiveCascadeSettings Naive(const CascadeConfig& cascade) {
  return {.sinks = cascade.sinks,
          .slots = cascade.slots,
          .sub_caches = cascade.sub_caches,
          .stride = cascade.stride,
          .beta = cascade.beta,
          .head_reduction = cascade.head_reduction == HeadReduction::kMax
                                ? NaiveHeadReduction::kMax
                                : NaiveHeadReduction::kMean};
}

// One session: the plans of the code under test's caller, and the reference for every layer and KV
// head.
struct Session {
  Session(const Shape& shape, int cache_slot, const CascadeConfig& cascade)
      : plan(cache_slot, cascade),
        heads(shape.layers * shape.kv_heads, NaiveCascade(Naive(cascade))) {}

  KvCache plan;
  std::vector<NaiveCascade> heads;  // [layers * kv_heads]
};

// What the reference says of one KV head in one step. Updates the cached tokens' scores.
struct NaiveAttention {
  std::vector<std::vector<double>> out;  // [rows * group][head_dim]
  std::vector<double> row_scores;        // [rows]
};

NaiveAttention AttendNaively(const Shape& shape, int kv_head, const SequenceStep& step,
                             const std::vector<float>& qkv, NaiveCascade& cache) {
  const auto part = [&](int row, int head) {
    const auto begin = qkv.begin() + int64_t{step.first_row + row} * shape.qkv_cols() +
                       int64_t{head} * shape.head_dim;
    return std::vector<double>(begin, begin + shape.head_dim);
  };
  const std::vector<NaiveCachedToken*> cached = cache.ByPosition();
  const int past = static_cast<int>(cached.size());
  std::vector<std::vector<double>> keys;
  std::vector<std::vector<double>> values;
  for (const NaiveCachedToken* token : cached) {
    keys.push_back(Rotated(token->key, static_cast<int>(keys.size())));
    values.push_back(token->value);
  }
  for (int row = 0; row < step.rows; ++row) {
    keys.push_back(Rotated(part(row, shape.query_heads() + kv_head), past + row));
    values.push_back(part(row, shape.query_heads() + shape.kv_heads + kv_head));
  }

  NaiveAttention result;
  result.out.resize(step.rows * shape.group);
  std::vector<std::vector<double>> sums(shape.group, std::vector<double>(past + step.rows));
  for (int row = 0; row < step.rows; ++row) {
    const double weight = std::pow(step.cascade.beta, step.rows - 1 - row);
    for (int head = 0; head < shape.group; ++head) {
      const std::vector<double> query =
          Rotated(part(row, kv_head * shape.group + head), past + row);
      std::vector<double> p(past + row + 1);
      double largest = -std::numeric_limits<double>::infinity();
      for (size_t key = 0; key < p.size(); ++key) {
        for (int i = 0; i < shape.head_dim; ++i) p[key] += query[i] * keys[key][i];
        p[key] /= std::sqrt(shape.head_dim);
        largest = std::max(largest, p[key]);
      }
      double sum = 0.0;
      for (double& value : p) sum += value = std::exp(value - largest);
      std::vector<double>& out = result.out[row * shape.group + head];
      out.resize(shape.head_dim);
      for (size_t key = 0; key < p.size(); ++key) {
        for (int i = 0; i < shape.head_dim; ++i) out[i] += p[key] / sum * values[key][i];
        sums[head][key] += weight * p[key] / sum;
      }
    }
  }
  std::vector<double> reduced = sums[0];
  for (int head = 1; head < shape.group; ++head) {
    for (size_t key = 0; key < reduced.size(); ++key) {
      if (step.cascade.head_reduction == HeadReduction::kMean) {
        reduced[key] += sums[head][key];
      } else {
        reduced[key] = std::max(reduced[key], sums[head][key]);
      }
    }
  }
  if (step.cascade.head_reduction == HeadReduction::kMean) {
    for (double& value : reduced) value /= shape.group;
  }
  for (int key = 0; key < past; ++key) {
    cached[key]->score = std::pow(step.cascade.beta, step.rows) * cached[key]->score + reduced[key];
  }
  result.row_scores.assign(reduced.begin() + past, reduced.end());
  return result;
}

// Runs sessions on a backend, checking each step.
class Harness {
 public:
  Harness(int threads, const Shape& shape, const std::vector<CascadeConfig>& cascades)
      : shape_(shape), backend_(MakeCpuBackend(threads)) {
    KvShape kv_shape{.layers = shape.layers,
                     .kv_heads = shape.kv_heads,
                     .query_heads = shape.query_heads(),
                     .head_dim = shape.head_dim,
                     .sessions = static_cast<int>(cascades.size())};
    int rotations = 0;
    for (size_t i = 0; i < cascades.size(); ++i) {
      // Sessions do not lie in the order in which they are named.
      sessions_.emplace_back(shape, static_cast<int>(cascades.size() - 1 - i), cascades[i]);
      kv_shape.slots = std::max(kv_shape.slots, cascades[i].total_slots());
      kv_shape.max_stride = std::max(kv_shape.max_stride, cascades[i].stride);
      kv_shape.max_step_rows += cascades[i].stride;
      rotations = std::max(rotations, static_cast<int>(RotationsNeeded(cascades[i])));
    }
    kv_shape_ = kv_shape;
    kv_ = backend_->AllocateKv(kv_shape, MakeTestRopeTable(shape.head_dim, rotations)).value();
  }

  // One step in which session i has rows[i] rows, or none. Rows of no session lie between.
  void Step(std::mt19937& random, const std::vector<int>& rows) {
    std::vector<SequenceStep> steps;
    std::vector<Session*> active;
    int total = 1;
    for (size_t i = 0; i < sessions_.size(); ++i) {
      if (rows[i] == 0) continue;
      steps.push_back(sessions_[i].plan.Plan(total, rows[i]));
      active.push_back(&sessions_[i]);
      total += rows[i] + static_cast<int>(i % 2);
    }
    const std::unique_ptr<DeviceStep> step = MakeStep(*backend_, steps);
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const std::vector<float> qkv = RandomFloats(random, int64_t{total} * shape_.qkv_cols(), 1.3f);
      const Tensor in = MakeTensor(*backend_, total, shape_.qkv_cols(), qkv);
      const Tensor out = PoisonedTensor(*backend_, total, shape_.query_heads() * shape_.head_dim);
      const Tensor row_scores =
          PoisonedTensor(*backend_, shape_.kv_heads, kv_shape_.max_step_rows + total);
      backend_->Attend(*kv_, layer, *step, in, out, row_scores);
      ASSERT_EQ(ToVector(*backend_, in), qkv);
      for (size_t i = 0; i < steps.size(); ++i) {
        CheckAndAdmit(layer, steps[i], *active[i], qkv, ToVector(*backend_, out),
                      ToVector(*backend_, row_scores), row_scores.cols);
        if (testing::Test::HasFatalFailure()) return;
      }
      backend_->Admit(*kv_, layer, *step, in, row_scores);
    }
    for (size_t i = 0; i < steps.size(); ++i) active[i]->plan.Commit(steps[i]);
    for (Session* session : active) CheckContents(*session);
  }

  // Everything that can be read from the caches.
  std::vector<float> Dump() const {
    std::vector<float> dump;
    for (int session = 0; session < kv_shape_.sessions; ++session) {
      for (int layer = 0; layer < shape_.layers; ++layer) {
        for (int head = 0; head < shape_.kv_heads; ++head) {
          const SlotContents contents = kv_->Read(session, layer, head);
          dump.insert(dump.end(), contents.tokens.begin(), contents.tokens.end());
          dump.insert(dump.end(), contents.scores.begin(), contents.scores.end());
        }
      }
    }
    return dump;
  }

  const KvStorage& kv() const { return *kv_; }
  std::vector<float>& outputs() { return outputs_; }

 private:
  void CheckAndAdmit(int layer, const SequenceStep& step, Session& session,
                     const std::vector<float>& qkv, const std::vector<float>& out,
                     const std::vector<float>& row_scores, int64_t score_cols) {
    for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      NaiveCascade& cache = session.heads[layer * shape_.kv_heads + kv_head];
      const NaiveAttention expected = AttendNaively(shape_, kv_head, step, qkv, cache);
      for (int row = 0; row < step.rows; ++row) {
        for (int head = 0; head < shape_.group; ++head) {
          const float* actual = out.data() + (int64_t{step.first_row + row} * shape_.query_heads() +
                                              kv_head * shape_.group + head) *
                                                 shape_.head_dim;
          for (int i = 0; i < shape_.head_dim; ++i) {
            ASSERT_NEAR(actual[i], expected.out[row * shape_.group + head][i], 5e-5)
                << "layer " << layer << ", row " << row << ", head " << head << ", " << i;
            outputs_.push_back(actual[i]);
          }
        }
      }
      // The reference takes over the backend's scores.
      const SlotContents contents = kv_->Read(session.plan.cache_slot(), layer, kv_head);
      const std::vector<LiveSlot> live = session.plan.LiveSlots();
      const std::vector<NaiveCachedToken*> cached = cache.ByPosition();
      ASSERT_EQ(live.size(), cached.size());
      for (size_t i = 0; i < live.size(); ++i) {
        const float score = contents.scores[live[i].slot];
        ASSERT_NEAR(score, cached[i]->score, 1e-4 * cached[i]->score + 1e-7) << "slot " << i;
        cached[i]->score = score;
      }
      const auto part = [&](int row, int head) {
        const auto begin = qkv.begin() + int64_t{step.first_row + row} * shape_.qkv_cols() +
                           int64_t{head} * shape_.head_dim;
        return std::vector<double>(begin, begin + shape_.head_dim);
      };
      for (int row = 0; row < step.rows; ++row) {
        const float score = row_scores[kv_head * score_cols + step.first_row + row];
        ASSERT_NEAR(score, expected.row_scores[row], 1e-4 * expected.row_scores[row] + 1e-7);
        cache.Admit({.index = step.first_token + row,
                     .score = score,
                     .key = part(row, shape_.query_heads() + kv_head),
                     .value = part(row, shape_.query_heads() + shape_.kv_heads + kv_head)});
      }
    }
  }

  void CheckContents(const Session& session) const {
    const std::vector<LiveSlot> live = session.plan.LiveSlots();
    for (int layer = 0; layer < shape_.layers; ++layer) {
      for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
        const SlotContents contents = kv_->Read(session.plan.cache_slot(), layer, kv_head);
        NaiveCascade cache = session.heads[layer * shape_.kv_heads + kv_head];
        const std::vector<NaiveCachedToken*> expected = cache.ByPosition();
        ASSERT_EQ(live.size(), expected.size());
        for (size_t i = 0; i < live.size(); ++i) {
          ASSERT_EQ(contents.tokens[live[i].slot], expected[i]->index) << "position " << i;
          ASSERT_EQ(contents.scores[live[i].slot], expected[i]->score) << "position " << i;
        }
      }
    }
  }

  Shape shape_;
  KvShape kv_shape_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvStorage> kv_;
  std::vector<Session> sessions_;
  std::vector<float> outputs_;
};

CascadeConfig RandomCascade(std::mt19937& random) {
  CascadeConfig cascade;
  cascade.sub_caches = RandomInt(random, 1, 4);
  cascade.slots = cascade.sub_caches * RandomInt(random, 1, 20);
  cascade.sinks = RandomInt(random, 0, 20);
  cascade.stride = RandomInt(random, 1, 50);
  const double betas[] = {0.9999999, 0.95, 1.0, 0.0};
  cascade.beta = betas[RandomInt(random, 0, 3)];
  cascade.head_reduction =
      RandomInt(random, 0, 1) == 0 ? HeadReduction::kMax : HeadReduction::kMean;
  return cascade;
}

class AttentionTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if ((hwy::SupportedTargets() & GetParam()) == 0) GTEST_SKIP() << "not on this machine";
    hwy::SetSupportedTargetsForTest(GetParam());
  }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(AttentionTest, EqualsTheCascadeToldTokenByToken) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 24; ++trial) {
    const Shape shape{.layers = RandomInt(random, 1, 2),
                      .kv_heads = RandomInt(random, 1, 3),
                      .group = RandomInt(random, 1, 4),
                      .head_dim = 2 * RandomInt(random, 1, 20)};
    std::vector<CascadeConfig> cascades;
    for (int i = 0; i < 1 + trial % 3; ++i) cascades.push_back(RandomCascade(random));
    Harness harness(1 + trial % 3, shape, cascades);
    for (int step = 0; step < 12; ++step) {
      std::vector<int> rows;
      for (const CascadeConfig& cascade : cascades) {
        const int kind = RandomInt(random, 0, 4);
        rows.push_back(kind == 0   ? 0
                       : kind == 1 ? 1
                       : kind == 2 ? cascade.stride
                                   : RandomInt(random, 1, cascade.stride));
      }
      harness.Step(random, rows);
      if (HasFatalFailure()) FAIL() << "trial " << trial << ", step " << step;
    }
  }
}

TEST_P(AttentionTest, ManyBlocksOfRows) {
  std::mt19937 random(6);
  const CascadeConfig cascade{.sinks = 7, .slots = 120, .sub_caches = 4, .stride = 150};
  Harness harness(2, {.layers = 1, .kv_heads = 1, .group = 3, .head_dim = 64}, {cascade});
  for (const int rows : {150, 150, 149, 1, 33, 1}) {
    ASSERT_NO_FATAL_FAILURE(harness.Step(random, {rows}));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest,
                         testing::Values(HWY_SCALAR, HWY_SSE4, HWY_AVX2, HWY_AVX3),
                         [](const testing::TestParamInfo<int64_t>& info) {
                           return std::string(hwy::TargetName(info.param));
                         });

TEST(AttentionDeterminismTest, ThreadsDoNotMatter) {
  const Shape shape{.layers = 2, .kv_heads = 2, .group = 3, .head_dim = 32};
  const std::vector<CascadeConfig> cascades = {
      {.sinks = 4, .slots = 64, .sub_caches = 4, .stride = 100},
      {.sinks = 0, .slots = 30, .sub_caches = 2, .stride = 7, .beta = 0.99}};
  std::vector<float> expected;
  for (int threads = 1; threads <= 3; ++threads) {
    std::mt19937 random(7);
    Harness harness(threads, shape, cascades);
    for (const std::vector<int>& rows : std::vector<std::vector<int>>{
             {100, 7}, {100, 1}, {1, 7}, {77, 0}, {1, 1}, {0, 1}, {100, 7}}) {
      ASSERT_NO_FATAL_FAILURE(harness.Step(random, rows));
    }
    std::vector<float> all = harness.Dump();
    all.insert(all.end(), harness.outputs().begin(), harness.outputs().end());
    if (expected.empty()) expected = all;
    EXPECT_EQ(all, expected) << threads << " threads";
  }
}

}  // namespace
}  // namespace weir
