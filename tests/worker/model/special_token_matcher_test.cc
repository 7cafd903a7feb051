#include "worker/model/special_token_matcher.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(SpecialTokenMatcherTest, FindsTheLongestAtTheBeginning) {
  SpecialTokenMatcher matcher;
  matcher.Add("<a>", 1);
  matcher.Add("<a><b>", 2);
  matcher.Add("<ab", 3);

  EXPECT_EQ(matcher.LongestAt("<a>x").token, 1);
  EXPECT_EQ(matcher.LongestAt("<a>x").length, 3u);
  EXPECT_FALSE(matcher.LongestAt("<a>x").undecided);
  EXPECT_EQ(matcher.LongestAt("<a><b>x").token, 2);
  EXPECT_EQ(matcher.LongestAt("<a><c>").token, 1);
  EXPECT_EQ(matcher.LongestAt("x<a>").length, 0u);
  EXPECT_EQ(matcher.LongestAt("<b>").length, 0u);
}

TEST(SpecialTokenMatcherTest, SaysWhenMoreTextCouldDecide) {
  SpecialTokenMatcher matcher;
  matcher.Add("<a>", 1);
  matcher.Add("<a><b>", 2);

  EXPECT_TRUE(matcher.LongestAt("<a").undecided);
  EXPECT_EQ(matcher.LongestAt("<a").length, 0u);
  EXPECT_TRUE(matcher.LongestAt("<a><").undecided);
  EXPECT_EQ(matcher.LongestAt("<a><").token, 1);
  EXPECT_FALSE(matcher.LongestAt("<a><b>").undecided);
  EXPECT_FALSE(matcher.LongestAt("<x").undecided);
}

TEST(SpecialTokenMatcherTest, EmptyFindsNothing) {
  const SpecialTokenMatcher matcher;
  EXPECT_EQ(matcher.LongestAt("<a>").length, 0u);
  EXPECT_FALSE(matcher.LongestAt("<a>").undecided);
}

}  // namespace
}  // namespace weir
