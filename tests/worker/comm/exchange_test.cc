#include "worker/comm/exchange.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_process_group.h"

namespace weir {
namespace {

TEST(ExchangeTest, EveryRankGetsWhatEveryRankHas) {
  for (const int size : {1, 2, 3}) {
    const auto ranks = MakeInProcessGroup(size);
    RunRanks(size, [&](int rank) {
      const auto exchanged = Exchange(*ranks[rank], absl::StrCat("rank ", rank));
      ASSERT_TRUE(exchanged.ok()) << exchanged.status();
      ASSERT_EQ(static_cast<int>(exchanged->size()), size);
      for (int peer = 0; peer < size; ++peer) {
        EXPECT_EQ((*exchanged)[peer], absl::StrCat("rank ", peer));
      }
      const auto nothing = Exchange(*ranks[rank], "");
      ASSERT_TRUE(nothing.ok()) << nothing.status();
      EXPECT_EQ(*nothing, std::vector<std::string>(size));
    });
  }
}

TEST(ExchangeTest, LengthsThatDifferAreFoundOut) {
  const auto ranks = MakeInProcessGroup(2);
  RunRanks(2, [&](int rank) {
    EXPECT_EQ(Exchange(*ranks[rank], std::string(rank + 1, 'x')).status().code(),
              absl::StatusCode::kInternal);
  });
}

TEST(ExchangeTest, TheFirstToRefuseIsTheSameEverywhere) {
  const auto ranks = MakeInProcessGroup(3);
  RunRanks(3, [&](int rank) {
    for (int refusing = 0; refusing < 8; ++refusing) {  // a bit for each rank
      const auto first = FirstToRefuse(*ranks[rank], (refusing >> rank & 1) == 0);
      ASSERT_TRUE(first.ok()) << first.status();
      int expected = -1;
      for (int peer = 2; peer >= 0; --peer) {
        if (refusing >> peer & 1) expected = peer;
      }
      EXPECT_EQ(*first, expected) << refusing;
    }
  });
}

TEST(ExchangeTest, ALostRankIsAnError) {
  const auto ranks = MakeInProcessGroup(2);
  ranks[1]->Abort();
  EXPECT_FALSE(Exchange(*ranks[0], "x").ok());
  EXPECT_FALSE(FirstToRefuse(*ranks[0], true).ok());
}

}  // namespace
}  // namespace weir
