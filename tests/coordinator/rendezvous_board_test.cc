#include "coordinator/rendezvous_board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

bool Never() { return false; }

class RendezvousTest : public testing::Test {
 protected:
  RendezvousTest() { rendezvous_.Open(1); }

  absl::Status GetNow(int64_t generation, const std::string& key) {
    return rendezvous_.Get(generation, key, absl::InfinitePast(), Never).status();
  }

  RendezvousBoard rendezvous_;
};

TEST_F(RendezvousTest, AValueReachesTheOneWhoWaits) {
  std::string got;
  std::thread waiter(
      [&] { got = rendezvous_.Get(1, "address/0", absl::InfiniteFuture(), Never).value(); });
  EXPECT_TRUE(rendezvous_.Put(1, "address/1", "no").ok());
  EXPECT_TRUE(rendezvous_.Put(1, "address/0", std::string("a\0b", 3)).ok());
  waiter.join();
  EXPECT_EQ(got, std::string("a\0b", 3));
}

TEST_F(RendezvousTest, GenerationsAreSeparate) {
  rendezvous_.Open(2);
  EXPECT_TRUE(rendezvous_.Put(1, "key", "one").ok());
  EXPECT_EQ(GetNow(2, "key").code(), absl::StatusCode::kDeadlineExceeded);
  rendezvous_.Close(1);
  EXPECT_EQ(rendezvous_.Put(1, "key", "one").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetNow(1, "key").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetNow(3, "key").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(GetNow(3, "key").message()), HasSubstr("generation 3"));
}

TEST_F(RendezvousTest, TheEndOfAGenerationWakesWhoWaits) {
  absl::Status status;
  std::atomic<bool> waits = false;
  std::thread waiter([&] {
    waits = true;
    status = rendezvous_.Get(1, "key", absl::InfiniteFuture(), Never).status();
  });
  while (!waits) std::this_thread::yield();
  rendezvous_.Close(1);
  waiter.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RendezvousTest, WaitingEndsWithTheDeadlineOrTheCaller) {
  const absl::Status late =
      rendezvous_.Get(1, "key", absl::Now() + absl::Milliseconds(20), Never).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()), HasSubstr("\"key\""));
  int asked = 0;
  const absl::Status gone =
      rendezvous_.Get(1, "key", absl::InfiniteFuture(), [&] { return ++asked == 2; }).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kCancelled);
}

TEST_F(RendezvousTest, AValueIsPutOnceButMayBeSentAgain) {
  EXPECT_TRUE(rendezvous_.Put(1, "key", "one").ok());
  EXPECT_TRUE(rendezvous_.Put(1, "key", "one").ok());
  EXPECT_EQ(rendezvous_.Put(1, "key", "two").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(rendezvous_.Get(1, "key", absl::InfinitePast(), Never).value(), "one");
}

TEST_F(RendezvousTest, SizesAreBounded) {
  const std::string longest_key(RendezvousBoard::kMaxKeyBytes, 'k');
  const std::string largest(RendezvousBoard::kMaxValueBytes, 'v');
  EXPECT_TRUE(rendezvous_.Put(1, longest_key, largest).ok());
  EXPECT_EQ(rendezvous_.Put(1, longest_key + "k", "").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rendezvous_.Put(1, "", "").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rendezvous_.Put(1, "key", largest + "v").code(), absl::StatusCode::kInvalidArgument);

  absl::Status status;
  size_t puts = 0;
  while ((status = rendezvous_.Put(1, absl::StrCat(puts), largest)).ok()) ++puts;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(puts, RendezvousBoard::kMaxGenerationBytes / RendezvousBoard::kMaxValueBytes - 2);
  // What is full is one generation, and it can still be read.
  rendezvous_.Open(2);
  EXPECT_TRUE(rendezvous_.Put(2, "key", largest).ok());
  EXPECT_TRUE(GetNow(1, "0").ok());
}

}  // namespace
}  // namespace weir
