// The reference itself, held against what the method says of it.

#include "tests/testing/naive_cascade.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

std::vector<int64_t> Range(int64_t from, int64_t to) {
  std::vector<int64_t> indices(to - from);
  std::iota(indices.begin(), indices.end(), from);
  return indices;
}

// Admits tokens with random scores.
NaiveCascade ReadTokens(const NaiveCascadeSettings& settings, int64_t tokens) {
  NaiveCascade cascade(settings);
  std::mt19937 random(7);
  std::uniform_real_distribution<double> score(0.0, 1.0);
  for (int64_t n = 0; n < tokens; ++n) cascade.Admit({.index = n, .score = score(random)});
  return cascade;
}

TEST(NaiveCascadeTest, KeepsEverythingUntilItIsFull) {
  for (int tokens : {0, 1, 3, 4, 12, 28}) {
    EXPECT_EQ(ReadTokens({.sinks = 4, .slots = 24, .sub_caches = 3}, tokens).KeptIndices(),
              Range(0, tokens));
  }
}

TEST(NaiveCascadeTest, OneSubCacheIsSinksAndASlidingWindow) {
  const NaiveCascade cascade = ReadTokens({.sinks = 4, .slots = 16, .sub_caches = 1}, 1000);
  std::vector<int64_t> expected = Range(0, 4);
  for (int64_t index : Range(1000 - 16, 1000)) expected.push_back(index);
  EXPECT_EQ(cascade.KeptIndices(), expected);
}

TEST(NaiveCascadeTest, SpansRingSlotsTimesTwoToTheSubCaches) {
  NaiveCascadeSettings settings = {.sinks = 4, .slots = 256, .sub_caches = 4};
  const NaiveCascade cascade = ReadTokens(settings, 5000);
  const std::vector<int64_t> kept = cascade.KeptIndices();
  ASSERT_EQ(kept.size(), 4u + 256u);
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
  const int64_t span = 5000 - kept[4];
  EXPECT_LE(span, 64 * 15);
  EXPECT_GE(span, 64 * 15 - 16);  // the oldest slot's token is one of the 8 it won against
}

TEST(NaiveCascadeTest, NewestTokenIsChallengedAndTheLaterWinsTies) {
  // Two rings of one slot, filled by tokens 0 and 1; token 2 still finds the cache filling. After
  // that ring 1 accepts when the pushing token's index is even.
  const auto kept = [](std::vector<double> scores) {
    NaiveCascade cascade({.sinks = 0, .slots = 2, .sub_caches = 2});
    for (size_t n = 0; n < scores.size(); ++n) {
      cascade.Admit({.index = static_cast<int64_t>(n), .score = scores[n]});
    }
    return cascade.KeptIndices();
  };
  EXPECT_EQ(kept({0, 0, 0}), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(kept({0, 5, 4, 0}), (std::vector<int64_t>{1, 3}));     // 2 challenges 1 and loses
  EXPECT_EQ(kept({0, 5, 5, 0}), (std::vector<int64_t>{2, 3}));     // a tie: 2 wins
  EXPECT_EQ(kept({0, 5, 4, 0, 0}), (std::vector<int64_t>{3, 4}));  // 4 is even: 3 is accepted
}

}  // namespace
}  // namespace weir
