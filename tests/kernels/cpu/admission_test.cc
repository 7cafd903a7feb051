// Admit alone, with scores that often tie, against the cascade told one token at a time.

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "tests/kernels/cpu/test_tensors.h"
#include "tests/testing/naive_cascade.h"

namespace weir {
namespace {

constexpr int kHeadDim = 2;

TEST(AdmissionTest, LaterTokenWinsATie) {
  std::mt19937 random(8);
  for (int trial = 0; trial < 200; ++trial) {
    CascadeConfig cascade;
    cascade.sub_caches = RandomInt(random, 1, 5);
    cascade.slots = cascade.sub_caches * RandomInt(random, 1, 9);
    cascade.sinks = RandomInt(random, 0, 5);
    cascade.stride = RandomInt(random, 1, 60);
    const int kv_heads = RandomInt(random, 1, 3);
    const std::unique_ptr<Backend> backend = MakeCpuBackend(RandomInt(random, 1, 3));
    const std::unique_ptr<KvStorage> kv =
        backend
            ->AllocateKv({.layers = 1,
                          .kv_heads = kv_heads,
                          .query_heads = kv_heads,
                          .head_dim = kHeadDim,
                          .sessions = 1,
                          .slots = cascade.total_slots(),
                          .max_step_rows = cascade.stride,
                          .max_stride = cascade.stride},
                         MakeTestRopeTable(kHeadDim, static_cast<int>(RotationsNeeded(cascade))))
            .value();
    KvCache plan(0, cascade);
    std::vector<NaiveCascade> heads(kv_heads, NaiveCascade({.sinks = cascade.sinks,
                                                            .slots = cascade.slots,
                                                            .sub_caches = cascade.sub_caches}));
    for (int step_index = 0; step_index < 10; ++step_index) {
      const int rows = RandomInt(random, 1, cascade.stride);
      const SequenceStep step = plan.Plan(0, rows);
      std::vector<float> scores(kv_heads * cascade.stride);
      for (float& score : scores) score = static_cast<float>(RandomInt(random, 0, 2));
      const Tensor qkv = MakeTensor(*backend, rows, 3 * kv_heads * kHeadDim,
                                    RandomFloats(random, int64_t{rows} * 3 * kv_heads * kHeadDim));
      backend->Admit(*kv, 0, *MakeStep(*backend, {step}), qkv,
                     MakeTensor(*backend, kv_heads, cascade.stride, scores));
      plan.Commit(step);

      for (int head = 0; head < kv_heads; ++head) {
        for (int row = 0; row < rows; ++row) {
          heads[head].Admit(
              {.index = step.first_token + row, .score = scores[head * cascade.stride + row]});
        }
        const SlotContents contents = kv->Read(0, 0, head);
        const std::vector<LiveSlot> live = plan.LiveSlots();
        const std::vector<NaiveCachedToken*> expected = heads[head].ByPosition();
        ASSERT_EQ(live.size(), expected.size());
        for (size_t i = 0; i < live.size(); ++i) {
          ASSERT_EQ(contents.tokens[live[i].slot], expected[i]->index)
              << "trial " << trial << ", position " << i;
          ASSERT_EQ(contents.scores[live[i].slot], expected[i]->score);
        }
      }
    }
  }
}

TEST(AdmissionTest, CountsChallengesWon) {
  // One ring after another of one slot: tokens 0, 1 and 2 are accepted everywhere; from token 3 on,
  // ring 1 accepts the arrivals pushed by even tokens.
  const CascadeConfig cascade{.sinks = 0, .slots = 2, .sub_caches = 2, .stride = 9};
  const std::unique_ptr<Backend> backend = MakeCpuBackend(1);
  const std::unique_ptr<KvStorage> kv = backend
                                            ->AllocateKv({.layers = 1,
                                                          .kv_heads = 1,
                                                          .query_heads = 1,
                                                          .head_dim = kHeadDim,
                                                          .sessions = 1,
                                                          .slots = 2,
                                                          .max_step_rows = 9,
                                                          .max_stride = 9},
                                                         MakeTestRopeTable(kHeadDim, 16))
                                            .value();
  const Tensor qkv = MakeTensor(*backend, 9, 3 * kHeadDim, std::vector<float>(54));
  // Token n - 1 arrives at ring 1 pushed by token n. Challengers: 2 (by 3), 4 (by 5), 6 (by 7);
  // each against the token before it.
  const Tensor scores = MakeTensor(*backend, 1, 9, {0, 5, 5, 3, 2, 1, 4, 0, 0});
  backend->Admit(*kv, 0, *MakeStep(*backend, {KvCache(0, cascade).Plan(0, 9)}), qkv, scores);
  EXPECT_EQ(kv->swaps(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(kv->Read(0, 0, 0).tokens, (std::vector<int64_t>{8, 7}));
}

}  // namespace
}  // namespace weir
