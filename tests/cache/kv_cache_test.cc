#include "cache/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cache/cascade_limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cache/one_token_cascade.h"
#include "tests/cache/slot_array.h"

namespace weir {
namespace {

using ::testing::ElementsAre;

int Uniform(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

CascadeConfig RandomCascade(std::mt19937& random) {
  CascadeConfig cascade;
  cascade.sinks = Uniform(random, 0, 2) == 0 ? 0 : Uniform(random, 1, 6);
  cascade.sub_caches = Uniform(random, 1, 6);
  const int ring_slots = Uniform(random, 0, 2) == 0 ? 1 : Uniform(random, 2, 7);
  cascade.slots = cascade.sub_caches * ring_slots;
  cascade.stride = Uniform(random, 1, 2 * cascade.total_slots() + 3);
  cascade.beta = Uniform(random, 0, 100) / 100.0;
  return cascade;
}

std::string Describe(const CascadeConfig& cascade) {
  return absl::StrCat("sinks ", cascade.sinks, " slots ", cascade.slots, " sub_caches ",
                      cascade.sub_caches, " stride ", cascade.stride);
}

// Scores of all tokens, drawn anew for every step as attention would change them, from few values
// so that ties abound.
class RandomScores {
 public:
  RandomScores(std::mt19937& random, int values) : random_(random), values_(values) {}
  void Redraw(int64_t tokens) {
    scores_.resize(tokens);
    for (float& score : scores_) score = static_cast<float>(Uniform(random_, 1, values_));
  }
  float operator()(int64_t token) const { return scores_[token]; }

 private:
  std::mt19937& random_;
  int values_;
  std::vector<float> scores_;
};

// Chunks of the stride and shorter, and decodes, as a session with several turns makes them.
int RandomRows(std::mt19937& random, int stride) {
  switch (Uniform(random, 0, 3)) {
    case 0:
      return stride;
    case 1:
      return Uniform(random, 1, stride);
    default:
      return 1;
  }
}

// Checks that the segments name each live slot once, and that the angles of query and key are those
// of the dense ranks.
void ExpectRotationsGiveDenseRanks(const SequenceStep& step, const SlotArray& slots,
                                   const std::vector<int64_t>& kept) {
  const CascadeConfig& cascade = step.cascade;
  const int64_t rotations = RotationsNeeded(cascade);
  ASSERT_LE(step.segments.size(), 1u + 2 * cascade.sub_caches);
  std::set<int64_t> seen;
  for (const KeySegment& segment : step.segments) {
    ASSERT_GE(segment.slot_count, 1);
    ASSERT_GE(segment.query_rotation, 0);
    ASSERT_LT(segment.query_rotation + step.rows - 1, rotations);
    for (int i = 0; i < segment.slot_count; ++i) {
      const int slot = segment.first_slot + i;
      const int64_t token = slots.token(slot);
      ASSERT_TRUE(seen.insert(token).second) << "token " << token << " seen twice";
      const auto found = std::find(kept.begin(), kept.end(), token);
      ASSERT_NE(found, kept.end()) << "slot " << slot << " is not live";
      const int key_position = static_cast<int>(found - kept.begin());
      const int key_rotation =
          slot < cascade.sinks ? slot : (slot - cascade.sinks) % cascade.ring_slots();
      const int row_position = static_cast<int>(kept.size());
      ASSERT_EQ(segment.query_rotation - key_rotation, row_position - key_position);
      ASSERT_LT(key_rotation, rotations);
    }
  }
  ASSERT_EQ(seen.size(), kept.size());
}

void ExpectSameTokens(const KvCache& cache, const SlotArray& slots, const OneTokenCascade& naive) {
  std::vector<int64_t> kept;
  std::vector<int64_t> in_ring(cache.cascade().sub_caches, 0);
  for (const LiveSlot& live : cache.LiveSlots()) {
    kept.push_back(slots.token(live.slot));
    if (live.sub_cache != LiveSlot::kSink) ++in_ring[live.sub_cache];
  }
  ASSERT_EQ(kept, naive.Tokens());
  ASSERT_EQ(cache.filled_slots(), static_cast<int>(kept.size()));
  for (int level = 0; level < cache.cascade().sub_caches; ++level) {
    ASSERT_EQ(in_ring[level], static_cast<int64_t>(naive.ring(level).size()));
    ASSERT_EQ(cache.sub_caches()[level].size(), in_ring[level]);
  }
}

TEST(KvCacheTest, KeepsTheTokensOfOneAtATimeAtTheirDenseRanks) {
  std::mt19937 random(20240617);
  for (int trial = 0; trial < 4000; ++trial) {
    const CascadeConfig cascade = RandomCascade(random);
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", Describe(cascade)));
    KvCache cache(7, cascade);
    SlotArray slots(cascade);
    OneTokenCascade naive(cascade.sinks, cascade.slots, cascade.sub_caches);
    RandomScores scores(random, Uniform(random, 1, 4) == 1 ? 1000000 : Uniform(random, 1, 5));
    int64_t max_position = -1;
    const int64_t end = int64_t{4} * cascade.total_slots() + Uniform(random, 0, 64);
    while (cache.tokens() < end) {
      const int rows = RandomRows(random, cascade.stride);
      const int first_row = Uniform(random, 0, 9);
      const int64_t tokens_before = cache.tokens();
      const SequenceStep step = cache.Plan(first_row, rows);
      ASSERT_EQ(step.cache_slot, 7);
      ASSERT_EQ(step.first_row, first_row);
      ASSERT_EQ(step.rows, rows);
      ASSERT_EQ(step.first_token, tokens_before);
      ASSERT_EQ(cache.tokens(), tokens_before) << "Plan changed the cache";
      const std::vector<int64_t> kept = naive.Tokens();
      ASSERT_NO_FATAL_FAILURE(ExpectRotationsGiveDenseRanks(step, slots, kept));
      max_position = std::max<int64_t>(max_position, kept.size() + rows - 1);

      scores.Redraw(tokens_before + rows);
      const auto score = [&](int64_t token) { return scores(token); };
      slots.Admit(step, score);
      for (int row = 0; row < rows; ++row) naive.Push(score);
      cache.Commit(step);
      ASSERT_EQ(cache.tokens(), tokens_before + rows);
      ASSERT_NO_FATAL_FAILURE(ExpectSameTokens(cache, slots, naive));
    }
    EXPECT_EQ(cache.filled_slots(), cascade.total_slots());
    EXPECT_EQ(cache.max_position(), max_position);
    EXPECT_LT(cache.max_position(), cascade.total_slots() + cascade.stride);
  }
}

TEST(KvCacheTest, CountersAreTheSameHoweverTheTokensAreCut) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 500; ++trial) {
    const CascadeConfig cascade = RandomCascade(random);
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", Describe(cascade)));
    KvCache chunked(0, cascade);
    KvCache decoded(0, cascade);
    while (chunked.tokens() < 5 * cascade.total_slots()) {
      const int rows = RandomRows(random, cascade.stride);
      chunked.Commit(chunked.Plan(0, rows));
      for (int row = 0; row < rows; ++row) decoded.Commit(decoded.Plan(0, 1));
      ASSERT_EQ(chunked.LiveSlots(), decoded.LiveSlots());
      for (int level = 0; level < cascade.sub_caches; ++level) {
        ASSERT_EQ(chunked.sub_caches()[level].accepts(), decoded.sub_caches()[level].accepts());
        ASSERT_EQ(chunked.sub_caches()[level].evictions(), decoded.sub_caches()[level].evictions());
      }
    }
  }
}

TEST(KvCacheTest, OneSubCacheKeepsSinksAndTheLastTokens) {
  const CascadeConfig cascade{.sinks = 3, .slots = 10, .sub_caches = 1, .stride = 17};
  KvCache cache(0, cascade);
  SlotArray slots(cascade);
  const auto worthless_news = [](int64_t token) { return static_cast<float>(-token); };
  for (const int rows : {17, 1, 1, 5, 17, 1}) {
    const SequenceStep step = cache.Plan(0, rows);
    slots.Admit(step, worthless_news);
    cache.Commit(step);
  }
  std::vector<int64_t> kept;
  for (const LiveSlot& live : cache.LiveSlots()) kept.push_back(slots.token(live.slot));
  EXPECT_THAT(kept, ElementsAre(0, 1, 2, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41));
}

TEST(KvCacheTest, ReachesTheBoundsOnPositionsAndRotationsAndNoMore) {
  std::mt19937 random(99);
  for (int trial = 0; trial < 200; ++trial) {
    const CascadeConfig cascade = RandomCascade(random);
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", Describe(cascade)));
    KvCache cache(0, cascade);
    int64_t largest_rotation = 0;
    // Single tokens between chunks bring every ring's head to every slot.
    const int64_t cycle = cascade.ring_slots() * (int64_t{1} << cascade.sub_caches);
    while (cache.tokens() < 2 * (cycle + cascade.total_slots())) {
      const SequenceStep chunk = cache.Plan(0, cascade.stride);  // planned only
      for (const KeySegment& segment : chunk.segments) {
        largest_rotation =
            std::max<int64_t>(largest_rotation, segment.query_rotation + cascade.stride - 1);
      }
      cache.Commit(cache.Plan(0, 1));
    }
    cache.Commit(cache.Plan(0, cascade.stride));
    EXPECT_EQ(cache.max_position(), cascade.total_slots() + cascade.stride - 1);
    EXPECT_EQ(largest_rotation, RotationsNeeded(cascade) - 1);
  }
}

TEST(KvCacheTest, PlanningTouchesEachRowAtMostOncePerSubCache) {
  // Work is linear in the arrivals of each ring; those never outnumber the rows.
  const CascadeConfig cascade{.sinks = 4, .slots = 64, .sub_caches = 8, .stride = 1000};
  KvCache cache(0, cascade);
  for (int i = 0; i < 50; ++i) {
    const SequenceStep step = cache.Plan(0, cascade.stride);
    for (const RingAdmission& ring : step.rings) {
      EXPECT_LE(ring.arrivals, step.rows);
      EXPECT_LE(ring.new_entries(), ring.arrivals);
      EXPECT_LE(ring.evicted, ring.arrivals);
    }
    cache.Commit(step);
  }
  // Past the fill, each ring passes on half of what reaches it.
  const std::vector<SubCache>& rings = cache.sub_caches();
  EXPECT_EQ(rings[0].arrivals(), 50 * 1000 - 4);
  for (size_t level = 1; level < rings.size(); ++level) {
    EXPECT_EQ(rings[level].arrivals(), rings[level - 1].evictions());
    EXPECT_NEAR(static_cast<double>(rings[level].accepts()), 50000.0 / (1 << level), 64);
  }
}

TEST(KvCacheTest, BetaAndHeadReductionDoNotTouchThePlan) {
  CascadeConfig cascade{.sinks = 2, .slots = 12, .sub_caches = 3, .stride = 5};
  KvCache one(0, cascade);
  cascade.beta = 0.5;
  cascade.head_reduction = HeadReduction::kMean;
  KvCache other(0, cascade);
  for (int i = 0; i < 40; ++i) {
    one.Commit(one.Plan(0, 1 + i % 5));
    other.Commit(other.Plan(0, 1 + i % 5));
    ASSERT_EQ(one.LiveSlots(), other.LiveSlots());
  }
}

TEST(KvCacheTest, EmptyCacheAttendsToNothing) {
  KvCache cache(0, {.sinks = 2, .slots = 4, .sub_caches = 2, .stride = 3});
  EXPECT_EQ(cache.filled_slots(), 0);
  EXPECT_EQ(cache.max_position(), -1);
  EXPECT_TRUE(cache.LiveSlots().empty());
  const SequenceStep step = cache.Plan(0, 3);
  EXPECT_TRUE(step.segments.empty());
  EXPECT_EQ(step.first_sink_slot, 0);
  EXPECT_EQ(step.sink_rows, 2);
  EXPECT_THAT(step.rings[0].run_begin, ElementsAre(0, 1));
  EXPECT_THAT(step.rings[1].run_begin, ElementsAre(0));
}

}  // namespace
}  // namespace weir
