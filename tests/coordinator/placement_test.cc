#include "coordinator/placement.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(PlacementTest, ChoosesTheMostFreeSlots) {
  EXPECT_EQ(PlaceSession({{.sessions = 1, .session_slots = 4},
                          {.sessions = 5, .session_slots = 9},
                          {.sessions = 0, .session_slots = 2}}),
            1);
}

TEST(PlacementTest, TheFirstOfEqualsWins) {
  EXPECT_EQ(PlaceSession({{.sessions = 3, .session_slots = 4},
                          {.sessions = 2, .session_slots = 4},
                          {.sessions = 0, .session_slots = 2}}),
            1);
}

TEST(PlacementTest, AFullGroupIsAskedWhenThereIsNoOther) {
  EXPECT_EQ(PlaceSession({{.sessions = 4, .session_slots = 4}}), 0);
  EXPECT_EQ(PlaceSession({}), std::nullopt);
}

}  // namespace
}  // namespace weir
