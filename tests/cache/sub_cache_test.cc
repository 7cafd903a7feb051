#include "cache/sub_cache.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Two rings of three slots, no sinks: tokens 0 to 6 are accepted by both, later ones by ring 0, and
// the even ones by ring 1.
constexpr CascadeConfig kCascade{.sinks = 0, .slots = 6, .sub_caches = 2, .stride = 16};

TEST(SubCacheTest, AppendsUntilFullThenEvictsTheOldest) {
  SubCache ring(0, kCascade);
  std::vector<int64_t> tokens = {0, 1};
  RingAdmission admission = ring.Plan(tokens);
  EXPECT_EQ(admission.size, 0);
  EXPECT_EQ(admission.arrivals, 2);
  EXPECT_EQ(admission.evicted, 0);
  EXPECT_THAT(admission.run_begin, ElementsAre(0, 1, 2));
  EXPECT_THAT(tokens, IsEmpty());
  EXPECT_EQ(ring.size(), 0) << "Plan changed the ring";
  ring.Commit(admission);
  EXPECT_EQ(ring.size(), 2);
  EXPECT_EQ(ring.head(), 0);

  tokens = {2, 3, 4};
  admission = ring.Plan(tokens);
  EXPECT_EQ(admission.evicted, 2);
  EXPECT_THAT(tokens, ElementsAre(3, 4)) << "pushed out by the tokens that found the ring full";
  ring.Commit(admission);
  EXPECT_EQ(ring.size(), 3);
  EXPECT_EQ(ring.head(), 2);
  EXPECT_EQ(ring.arrivals(), 5);
  EXPECT_EQ(ring.accepts(), 5);
  EXPECT_EQ(ring.evictions(), 2);
}

TEST(SubCacheTest, LaterLevelsFoldWhatTheyDoNotAccept) {
  SubCache ring(1, kCascade);
  std::vector<int64_t> tokens = {3, 4, 5};
  ring.Commit(ring.Plan(tokens));
  ASSERT_EQ(ring.size(), 3);

  tokens = {7, 8, 9, 10, 11, 12};
  const RingAdmission admission = ring.Plan(tokens);
  EXPECT_EQ(admission.size, 3);
  EXPECT_THAT(admission.run_begin, ElementsAre(1, 3, 5, 6)) << "7 challenges the newest entry";
  EXPECT_EQ(admission.new_entries(), 3);
  EXPECT_EQ(admission.evicted, 3);
  EXPECT_THAT(tokens, ElementsAre(8, 10, 12));
  ring.Commit(admission);
  EXPECT_EQ(ring.head(), 0);
  EXPECT_EQ(ring.accepts(), 6);
  EXPECT_EQ(ring.arrivals(), 9);
}

TEST(SubCacheTest, EvictsNewEntriesWhenMoreComeThanFit) {
  SubCache ring(0, kCascade);
  std::vector<int64_t> tokens = {0, 1, 2, 3, 4, 5, 6, 7};
  const RingAdmission admission = ring.Plan(tokens);
  EXPECT_EQ(admission.new_entries(), 8);
  EXPECT_EQ(admission.evicted, 5);
  EXPECT_THAT(tokens, ElementsAre(3, 4, 5, 6, 7));
  ring.Commit(admission);
  EXPECT_EQ(ring.size(), 3);
  EXPECT_EQ(ring.head(), 2);
}

TEST(SubCacheTest, AnEmptyRingTakesWhatItWouldNotAccept) {
  SubCache ring(1, kCascade);
  std::vector<int64_t> tokens = {9, 11};
  const RingAdmission admission = ring.Plan(tokens);
  EXPECT_THAT(admission.run_begin, ElementsAre(0, 2));
}

TEST(SubCacheTest, NoArrivalsChangeNothing) {
  SubCache ring(0, kCascade);
  std::vector<int64_t> tokens;
  const RingAdmission admission = ring.Plan(tokens);
  EXPECT_THAT(admission.run_begin, ElementsAre(0));
  EXPECT_EQ(admission.new_entries(), 0);
  ring.Commit(admission);
  EXPECT_EQ(ring.size(), 0);
}

}  // namespace
}  // namespace weir
