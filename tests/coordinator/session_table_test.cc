#include "coordinator/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "coordinator/session_id.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Ids(const SessionPage& page) {
  std::vector<std::string> ids;
  for (const SessionPlace& place : page.sessions) ids.push_back(place.id);
  return ids;
}

TEST(SessionIdTest, IdsAre32DigitsAndDiffer) {
  std::set<std::string> ids;
  std::set<char> digits;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewSessionId();
    EXPECT_EQ(id.size(), 32);
    EXPECT_TRUE(CheckSessionId(id).ok());
    ids.insert(id);
    digits.insert(id.begin(), id.end());
  }
  EXPECT_EQ(ids.size(), 1000);
  EXPECT_EQ(digits.size(), 16);
}

TEST(SessionIdTest, WhatIsNoIdIsRefusedInOneShortSentence) {
  const std::string id = NewSessionId();
  for (const std::string& bad : {std::string(), id.substr(1), id + "0", "g" + id.substr(1),
                                 "\n" + id.substr(1), std::string(1 << 20, 'a')}) {
    const absl::Status status = CheckSessionId(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("session_id"));
    EXPECT_LT(status.message().size(), 120);
    for (const char c : status.message()) EXPECT_TRUE(absl::ascii_isprint(c));
  }
  EXPECT_THAT(std::string(CheckSessionId("abc").message()), HasSubstr("has 3 characters"));
}

TEST(SessionTableTest, FindsOwnSessionsOnly) {
  SessionTable table;
  const std::string id = NewSessionId();
  table.Add(id, "ann", 7);
  EXPECT_EQ(table.Find(id, "ann").value(), 7);

  // Another's session and one that does not exist: the same answer, word for word.
  const absl::Status foreign = table.Find(id, "bob").status();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(table.Remove(id, "bob"), foreign);
  table.Lose(7, "the worker left");
  EXPECT_EQ(table.Find(id, "bob").status(), foreign);
  EXPECT_EQ(table.Remove(id, "bob"), foreign);
  ASSERT_TRUE(table.Remove(id, "ann").ok());
  EXPECT_EQ(table.Find(id, "ann").status(), foreign);
  EXPECT_EQ(table.Find(id, "bob").status(), foreign);
}

TEST(SessionTableTest, PagesFollowTheOrderOfCreation) {
  SessionTable table;
  for (int i = 0; i < 5; ++i) {
    table.Add(absl::StrCat("a", i), "ann", 1);
    table.Add(absl::StrCat("b", i), "bob", 1);
  }
  const SessionPage first = table.List("ann", 2, "").value();
  EXPECT_THAT(Ids(first), ElementsAre("a0", "a1"));
  ASSERT_THAT(first.next_page_token, Not(IsEmpty()));

  // What happens between two pages neither repeats nor skips a session that stays.
  ASSERT_TRUE(table.Remove("a0", "ann").ok());
  ASSERT_TRUE(table.Remove("a1", "ann").ok());
  ASSERT_TRUE(table.Remove("a3", "ann").ok());
  table.Add("a5", "ann", 1);
  const SessionPage second = table.List("ann", 2, first.next_page_token).value();
  EXPECT_THAT(Ids(second), ElementsAre("a2", "a4"));
  const SessionPage third = table.List("ann", 2, second.next_page_token).value();
  EXPECT_THAT(Ids(third), ElementsAre("a5"));
  EXPECT_EQ(third.next_page_token, "");

  // A last page that is full has no token either.
  EXPECT_EQ(table.List("ann", 3, "").value().next_page_token, "");
  EXPECT_THAT(Ids(table.List("eve", 0, "").value()), IsEmpty());
}

TEST(SessionTableTest, PagesHaveBounds) {
  SessionTable table;
  for (int i = 0; i < 1001; ++i) table.Add(absl::StrCat(i), "ann", 1);
  EXPECT_EQ(table.List("ann", 0, "").value().sessions.size(), 100);
  EXPECT_EQ(table.List("ann", 1000, "").value().sessions.size(), 1000);
  for (const int size : {-1, 1001}) {
    const absl::Status status = table.List("ann", size, "").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("page_size is ", size)));
  }
  for (const std::string token : {"x", "-1", "99999999999999999999"}) {
    const absl::Status status = table.List("ann", 10, token).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << token;
    EXPECT_THAT(std::string(status.message()), HasSubstr("page_token")) << token;
  }
}

TEST(SessionTableTest, ALostGroupLosesItsSessionsOnly) {
  SessionTable table;
  table.Add("a", "ann", 1);
  table.Add("b", "ann", 2);
  table.Add("c", "ann", 1);
  EXPECT_EQ(table.SizeOf(1), 2);
  table.Lose(1, "rank 1 left");

  const absl::Status lost = table.Find("a", "ann").status();
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(lost.message(), "session a was lost: rank 1 left; create a new one");
  EXPECT_EQ(table.Find("b", "ann").value(), 2);
  EXPECT_THAT(Ids(table.List("ann", 0, "").value()), ElementsAre("b"));
  EXPECT_EQ(table.size(), 1);
  EXPECT_EQ(table.SizeOf(1), 0);
  EXPECT_EQ(table.SizeOf(2), 1);

  EXPECT_TRUE(table.Remove("a", "ann").ok());
  EXPECT_EQ(table.Find("a", "ann").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(table.size(), 1);
}

TEST(SessionTableTest, LostSessionsAreForgottenInTheEnd) {
  SessionTable table;
  table.Add("first", "ann", 1);
  table.Lose(1, "rank 0 left");
  const int kept = static_cast<int>(SessionTable::kLostSessionsKept);
  for (int i = 0; i < kept - 1; ++i) table.Add(absl::StrCat(i), "ann", 2);
  table.Lose(2, "rank 0 left");
  EXPECT_EQ(table.Find("first", "ann").status().code(), absl::StatusCode::kUnavailable);
  table.Add("last", "ann", 3);
  table.Lose(3, "rank 0 left");
  EXPECT_EQ(table.Find("first", "ann").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(table.Find("last", "ann").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace weir
