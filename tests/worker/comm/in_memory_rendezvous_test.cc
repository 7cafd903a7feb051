#include "worker/comm/in_memory_rendezvous.h"

#include <thread>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(InMemoryRendezvousTest, GivesWhatWasPutOnce) {
  InMemoryRendezvous rendezvous;
  std::thread other([&] { EXPECT_TRUE(rendezvous.Put("address", "here").ok()); });
  const absl::StatusOr<std::string> value = rendezvous.Get("address", absl::Seconds(30));
  other.join();
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(*value, "here");
  EXPECT_EQ(rendezvous.Put("address", "there").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(rendezvous.Get("other", absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(InMemoryRendezvousTest, AbortEndsWaits) {
  InMemoryRendezvous rendezvous;
  std::thread other([&] {
    rendezvous.Abort(absl::InternalError("no GPU"));
    rendezvous.Abort(absl::InternalError("a later reason"));
  });
  EXPECT_EQ(rendezvous.Get("address", absl::InfiniteDuration()).status().message(), "no GPU");
  other.join();
  EXPECT_EQ(rendezvous.Put("address", "here").message(), "no GPU");
}

}  // namespace
}  // namespace weir
