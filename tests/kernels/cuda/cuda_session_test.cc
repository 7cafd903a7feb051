// Attention and admission of the CUDA backend, chunks and single tokens in turn, against the
// cascade told one token at a time in double precision.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"
#include "tests/testing/naive_cascade.h"

namespace weir {
namespace {

constexpr int kLayers = 2;

struct Shape {
  int kv_heads;
  int group;  // query heads of a KV head
  int head_dim;

  int query_heads() const { return kv_heads * group; }
  int width() const { return (query_heads() + 2 * kv_heads) * head_dim; }
};

std::vector<double> Rotated(const std::vector<double>& x, int position) {
  const int half = static_cast<int>(x.size()) / 2;
  std::vector<double> out(x.size());
  for (int i = 0; i < half; ++i) {
    const double angle = position * std::pow(kRopeBase, -static_cast<double>(i) / half);
    out[i] = x[i] * std::cos(angle) - x[i + half] * std::sin(angle);
    out[i + half] = x[i + half] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return out;
}

// One KV head of one layer of a session.
struct NaiveHead {
  explicit NaiveHead(const NaiveCascadeSettings& settings) : cascade(settings) {}

  NaiveCascade cascade;
  // A contest was so close that other arithmetic may decide it otherwise; from then on there is
  // nothing to compare.
  bool undecided = false;
};

// A session as the naive cascade has it: what a step's output and the scores should be.
class NaiveSession {
 public:
  NaiveSession(const Shape& shape, const CascadeConfig& cascade)
      : shape_(shape), cascade_(cascade) {
    const NaiveCascadeSettings settings = {
        .sinks = cascade.sinks, .slots = cascade.slots, .sub_caches = cascade.sub_caches};
    heads_.resize(kLayers, std::vector<NaiveHead>(shape.kv_heads, NaiveHead(settings)));
  }

  NaiveHead& head(int layer, int kv_head) { return heads_[layer][kv_head]; }

  // Rows [0, rows) of qkv are the session's next. Returns the output of the KV head's query heads,
  // [rows][group * head_dim], and admits the rows.
  std::vector<double> Step(int layer, int kv_head, const float* qkv, int rows) {
    NaiveHead& head = heads_[layer][kv_head];
    const int dim = shape_.head_dim;
    const std::vector<NaiveCachedToken*> cached = head.cascade.ByPosition();
    std::vector<NaiveCachedToken> own(rows);
    std::vector<std::vector<double>> keys;
    std::vector<const std::vector<double>*> values;
    for (size_t i = 0; i < cached.size(); ++i) {
      keys.push_back(Rotated(cached[i]->key, static_cast<int>(i)));
      values.push_back(&cached[i]->value);
    }
    for (int row = 0; row < rows; ++row) {
      const float* key =
          qkv + int64_t{row} * shape_.width() + (shape_.query_heads() + kv_head) * dim;
      const float* value = key + shape_.kv_heads * dim;
      own[row].index = head.cascade.tokens_seen() + row;
      own[row].key.assign(key, key + dim);
      own[row].value.assign(value, value + dim);
      keys.push_back(Rotated(own[row].key, static_cast<int>(cached.size()) + row));
    }
    for (const NaiveCachedToken& token : own) values.push_back(&token.value);

    std::vector<double> out(int64_t{rows} * shape_.group * dim);
    std::vector<double> reduced(keys.size(), 0.0);
    for (int g = 0; g < shape_.group; ++g) {
      std::vector<double> sums(keys.size(), 0.0);
      for (int row = 0; row < rows; ++row) {
        const float* query =
            qkv + int64_t{row} * shape_.width() + (kv_head * shape_.group + g) * dim;
        const std::vector<double> rotated =
            Rotated({query, query + dim}, static_cast<int>(cached.size()) + row);
        const size_t seen = cached.size() + row + 1;
        std::vector<double> weights(seen);
        for (size_t k = 0; k < seen; ++k) {
          weights[k] =
              std::exp(std::inner_product(rotated.begin(), rotated.end(), keys[k].begin(), 0.0) /
                       std::sqrt(dim));
        }
        const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
        double* to = out.data() + (int64_t{row} * shape_.group + g) * dim;
        for (size_t k = 0; k < seen; ++k) {
          const double p = weights[k] / total;
          for (int i = 0; i < dim; ++i) to[i] += p * (*values[k])[i];
          sums[k] += p * std::pow(cascade_.beta, rows - 1 - row);
        }
      }
      for (size_t k = 0; k < keys.size(); ++k) {
        reduced[k] = cascade_.head_reduction == HeadReduction::kMax
                         ? std::max(reduced[k], sums[k])
                         : reduced[k] + sums[k] / shape_.group;
      }
    }
    for (size_t k = 0; k < cached.size(); ++k) {
      cached[k]->score = std::pow(cascade_.beta, rows) * cached[k]->score + reduced[k];
    }
    const size_t contests = head.cascade.contests().size();
    for (int row = 0; row < rows; ++row) {
      own[row].score = reduced[cached.size() + row];
      head.cascade.Admit(std::move(own[row]));
    }
    for (size_t i = contests; i < head.cascade.contests().size(); ++i) {
      const NaiveContest& contest = head.cascade.contests()[i];
      const double gap = std::abs(contest.arrival_score - contest.newest_score);
      if (gap < 0.06 * contest.newest_score + 1e-4) head.undecided = true;
    }
    return out;
  }

 private:
  Shape shape_;
  CascadeConfig cascade_;
  std::vector<std::vector<NaiveHead>> heads_;  // [layers][kv_heads]
};

class CudaSessionTest : public CudaBackendTest {
 protected:
  struct Session {
    KvCache plan;
    NaiveSession naive;
  };

  void Start(const Shape& shape, const std::vector<CascadeConfig>& cascades) {
    shape_ = shape;
    sessions_.clear();
    backend_->ForgetRecordings();
    KvShape kv = {.layers = kLayers,
                  .kv_heads = shape.kv_heads,
                  .query_heads = shape.query_heads(),
                  .head_dim = shape.head_dim,
                  .sessions = static_cast<int>(cascades.size())};
    int64_t rotations = 0;
    for (const CascadeConfig& cascade : cascades) {
      const int slot = static_cast<int>(cascades.size() - 1 - sessions_.size());
      sessions_.push_back({KvCache(slot, cascade), NaiveSession(shape, cascade)});
      kv.slots = std::max(kv.slots, cascade.total_slots());
      kv.max_stride = std::max(kv.max_stride, cascade.stride);
      rotations = std::max(rotations, RotationsNeeded(cascade));
    }
    kv.max_step_rows = kv.max_stride + kv.sessions;
    kv_ = backend_->AllocateKv(kv, MakeRopeTable(shape.head_dim, static_cast<int>(rotations)))
              .value();
    step_ = backend_->AllocateStep(kv, kv.max_stride, kv.sessions).value();
  }

  // One step of session `chunk` with `rows` rows, or, if it is negative, of a row each of the first
  // `rows` sessions.
  void Step(std::mt19937& random, int chunk, int rows) {
    std::vector<SequenceStep> steps;
    std::vector<Session*> active;
    if (chunk >= 0) {
      active.push_back(&sessions_[chunk]);
      steps.push_back(active[0]->plan.Plan(0, rows));
    } else {
      for (int i = 0; i < rows; ++i) {
        active.push_back(&sessions_[i]);
        steps.push_back(active[i]->plan.Plan(i, 1));
      }
    }
    const int padded = chunk >= 0 ? rows : backend_->PaddedRows(rows);
    std::vector<int32_t> tokens(rows);
    std::iota(tokens.begin(), tokens.end(), 0);
    backend_->LoadStep(tokens, steps, *step_);
    std::vector<std::vector<float>> qkvs;
    std::vector<std::unique_ptr<Matrix>> tables;
    std::vector<Tensor> outs;
    for (int layer = 0; layer < kLayers; ++layer) {
      qkvs.push_back(RandomBFloat16s(random, int64_t{rows} * shape_.width(), 1.2f));
      tables.push_back(MakeMatrix(qkvs[layer], shape_.width()));
      outs.push_back(Poisoned(padded, shape_.query_heads() * shape_.head_dim));
    }
    // As in a model, all layers have one tensor, and none is waited for.
    const Tensor qkv = Allocate(ElementType::kBFloat16, padded, shape_.width());
    const Tensor row_scores = Allocate(ElementType::kFloat32, shape_.kv_heads, padded);
    const auto enqueue = [&] {
      for (int layer = 0; layer < kLayers; ++layer) {
        backend_->Embed(*tables[layer], *step_, qkv);
        backend_->Attend(*kv_, layer, *step_, qkv, outs[layer], row_scores);
        backend_->Admit(*kv_, layer, *step_, qkv, row_scores);
      }
      return absl::OkStatus();
    };
    // A recorded decode step has branches.
    if (chunk < 0 && ++decode_steps_ % 3 != 0) {
      const absl::Status replayed = backend_->Replay(decode_steps_, enqueue);
      ASSERT_TRUE(replayed.ok()) << replayed;
    } else {
      (void)enqueue();
    }
    const absl::Status ended = backend_->Synchronize();
    ASSERT_TRUE(ended.ok()) << ended;
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::vector<float> result = Read(outs[layer]);
      for (size_t i = 0; i < steps.size(); ++i) {
        for (int head = 0; head < shape_.kv_heads; ++head) {
          CheckHead(*active[i], steps[i], layer, head, qkvs[layer], result);
          if (HasFatalFailure()) return;
        }
      }
    }
    for (size_t i = 0; i < steps.size(); ++i) {
      active[i]->plan.Commit(steps[i]);
      CheckContents(*active[i]);
      if (HasFatalFailure()) return;
    }
  }

  void CheckHead(Session& session, const SequenceStep& step, int layer, int head,
                 const std::vector<float>& qkv, const std::vector<float>& result) {
    const bool undecided = session.naive.head(layer, head).undecided;
    const std::vector<double> expected = session.naive.Step(
        layer, head, qkv.data() + int64_t{step.first_row} * shape_.width(), step.rows);
    if (undecided) return;
    const int width = shape_.group * shape_.head_dim;
    std::vector<float> got;
    for (int row = 0; row < step.rows; ++row) {
      const auto first = result.begin() +
                         (int64_t{step.first_row} + row) * shape_.query_heads() * shape_.head_dim +
                         int64_t{head} * width;
      got.insert(got.end(), first, first + width);
    }
    ASSERT_LT(RelativeError(got, expected), 1.5e-2)
        << "layer " << layer << ", head " << head << ", token " << step.first_token << ", "
        << step.rows << " rows, " << session.plan.filled_slots() << " cached";
    ++checked_outputs_;
  }

  void CheckContents(Session& session) {
    const std::vector<LiveSlot> live = session.plan.LiveSlots();
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < shape_.kv_heads; ++head) {
        NaiveHead& naive = session.naive.head(layer, head);
        if (naive.undecided) continue;
        const SlotContents contents = kv_->Read(session.plan.cache_slot(), layer, head);
        const std::vector<NaiveCachedToken*> expected = naive.cascade.ByPosition();
        ASSERT_EQ(live.size(), expected.size());
        for (size_t i = 0; i < live.size(); ++i) {
          const int slot = live[i].slot;
          ASSERT_EQ(contents.tokens[slot], expected[i]->index)
              << "position " << i << " of " << live.size() << ", layer " << layer << ", head "
              << head << ", after token " << naive.cascade.tokens_seen() - 1;
          ASSERT_NEAR(contents.scores[slot], expected[i]->score, 0.03 * expected[i]->score + 1e-4)
              << "position " << i << ", after token " << naive.cascade.tokens_seen() - 1;
        }
        ++checked_contents_;
      }
    }
  }

  Shape shape_ = {};
  std::vector<Session> sessions_;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  int decode_steps_ = 0;
  int checked_outputs_ = 0;
  int checked_contents_ = 0;
};

int RandomInt(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

CascadeConfig RandomCascade(std::mt19937& random, int most_ring) {
  CascadeConfig cascade;
  cascade.sub_caches = RandomInt(random, 1, 5);
  cascade.slots = cascade.sub_caches * RandomInt(random, 1, most_ring);
  cascade.sinks = RandomInt(random, 0, 6);
  cascade.stride = RandomInt(random, 2, 150);
  const double betas[] = {1.0, 0.999, 0.9, 0.0};
  cascade.beta = betas[RandomInt(random, 0, 3)];
  cascade.head_reduction =
      RandomInt(random, 0, 1) == 0 ? HeadReduction::kMax : HeadReduction::kMean;
  return cascade;
}

TEST_F(CudaSessionTest, RandomSessions) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 24; ++trial) {
    const Shape shape = {RandomInt(random, 1, 3), RandomInt(random, 1, 10),
                         trial % 2 == 0 ? 64 : 128};
    std::vector<CascadeConfig> cascades;
    const int most_ring = trial % 3 == 0 ? 4 : 60;
    for (int i = RandomInt(random, 1, 5); i > 0; --i) {
      cascades.push_back(RandomCascade(random, most_ring));
    }
    SCOPED_TRACE(testing::Message()
                 << "trial " << trial << ": " << shape.kv_heads << " x " << shape.group
                 << " heads of " << shape.head_dim << ", " << cascades.size()
                 << " sessions; the first " << cascades[0].sinks << " sinks, " << cascades[0].slots
                 << " slots in " << cascades[0].sub_caches << ", beta " << cascades[0].beta);
    Start(shape, cascades);
    for (int i = 0; i < 14; ++i) {
      if (RandomInt(random, 0, 2) == 0) {
        const int session = RandomInt(random, 0, static_cast<int>(cascades.size()) - 1);
        Step(random, session, RandomInt(random, 2, cascades[session].stride));
      } else {
        Step(random, -1, RandomInt(random, 1, static_cast<int>(cascades.size())));
      }
      if (HasFatalFailure()) return;
    }
  }
  std::printf("checked %d outputs, %d caches\n", checked_outputs_, checked_contents_);
  EXPECT_GT(checked_outputs_, 500);
  EXPECT_GT(checked_contents_, 200);
}

// Decoding alone, from an empty cache until it has been full for long: sinks, every kind of
// admission, many splits of the keys.
TEST_F(CudaSessionTest, DecodesFromEmptyToFull) {
  std::mt19937 random(12);
  for (const int dim : {64, 128}) {
    Start({1, 4, dim}, {{.sinks = 3, .slots = 40, .sub_caches = 4, .stride = 8, .beta = 0.95},
                        {.sinks = 0, .slots = 6, .sub_caches = 3, .stride = 8, .beta = 0.5}});
    for (int i = 0; i < 150; ++i) {
      Step(random, -1, 2);
      if (HasFatalFailure()) return;
    }
  }
  std::printf("checked %d outputs, %d caches\n", checked_outputs_, checked_contents_);
  EXPECT_GT(checked_outputs_, 100);
}

// More keys than one block attends to.
TEST_F(CudaSessionTest, ManyKeys) {
  std::mt19937 random(13);
  for (const int dim : {64, 128}) {
    Start({2, 3, dim},
          {{.sinks = 4, .slots = 1200, .sub_caches = 3, .stride = 640, .beta = 0.999}});
    Step(random, 0, 640);
    for (int i = 0; i < 3 && !HasFatalFailure(); ++i) Step(random, -1, 1);
    if (!HasFatalFailure()) Step(random, 0, 640);
    for (int i = 0; i < 3 && !HasFatalFailure(); ++i) Step(random, -1, 1);
    if (!HasFatalFailure()) Step(random, 0, 77);
    for (int i = 0; i < 3 && !HasFatalFailure(); ++i) Step(random, -1, 1);
    if (HasFatalFailure()) return;
  }
  std::printf("checked %d outputs, %d caches\n", checked_outputs_, checked_contents_);
  EXPECT_GT(checked_outputs_, 20);
}

}  // namespace
}  // namespace weir
