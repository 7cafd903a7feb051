#include "worker/engine/run_channel.h"

#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

RunEvent Event(RunEvent::Kind kind, int64_t tokens_read = 0) {
  RunEvent event;
  event.kind = kind;
  event.tokens_read = tokens_read;
  return event;
}

TEST(RunChannelTest, FeedWaitsForRoomAndThenAddsEverything) {
  auto wake = std::make_shared<WakeSignal>();
  RunChannel channel(4, wake);
  ASSERT_TRUE(channel.Feed(std::vector<int32_t>(10, 1)).ok());  // more than waits at once
  absl::Notification fed;
  std::thread feeder([&] {
    EXPECT_TRUE(channel.Feed(std::vector<int32_t>{2, 3}).ok());
    EXPECT_TRUE(channel.CloseInput().ok());
    fed.Notify();
  });
  EXPECT_FALSE(fed.WaitForNotificationWithTimeout(absl::Milliseconds(30)));
  bool closed = true;
  EXPECT_EQ(channel.TakeInput(closed).size(), 10u);
  feeder.join();
  EXPECT_EQ(channel.TakeInput(closed), (std::vector<int32_t>{2, 3}));
  EXPECT_TRUE(closed);
  EXPECT_EQ(channel.Feed({}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RunChannelTest, EndUnblocksFeedAndNext) {
  auto wake = std::make_shared<WakeSignal>();
  RunChannel channel(1, wake);
  ASSERT_TRUE(channel.Feed(std::vector<int32_t>{1}).ok());
  std::thread feeder([&] {
    EXPECT_EQ(channel.Feed(std::vector<int32_t>{2}).code(), absl::StatusCode::kCancelled);
  });
  std::thread reader(
      [&] { EXPECT_EQ(channel.Next().status().code(), absl::StatusCode::kCancelled); });
  channel.End(absl::CancelledError(""));
  feeder.join();
  reader.join();
  channel.End(absl::UnavailableError(""));  // the first reason stays
  EXPECT_EQ(channel.Next().status().code(), absl::StatusCode::kCancelled);
  bool closed = true;
  EXPECT_EQ(channel.TakeInput(closed), (std::vector<int32_t>{1}));
  EXPECT_FALSE(closed);
}

TEST(RunChannelTest, ProgressReplacesProgressThatWaits) {
  RunChannel channel(0, std::make_shared<WakeSignal>());
  for (int i = 1; i <= 1000; ++i) channel.Push(Event(RunEvent::Kind::kProgress, i));
  EXPECT_FALSE(channel.full());
  channel.Push(Event(RunEvent::Kind::kToken));
  channel.Push(Event(RunEvent::Kind::kProgress, 1001));
  channel.End(absl::OutOfRangeError(""));
  EXPECT_EQ(channel.Next()->tokens_read, 1000);
  EXPECT_EQ(channel.Next()->kind, RunEvent::Kind::kToken);
  EXPECT_EQ(channel.Next()->tokens_read, 1001);
  EXPECT_EQ(channel.Next().status().code(), absl::StatusCode::kOutOfRange);
}

TEST(RunChannelTest, FullUntilTheCallerReads) {
  RunChannel channel(0, std::make_shared<WakeSignal>());
  for (size_t i = 0; i < RunChannel::kMaxEvents; ++i) {
    EXPECT_FALSE(channel.full());
    channel.Push(Event(RunEvent::Kind::kToken));
  }
  EXPECT_TRUE(channel.full());
  ASSERT_TRUE(channel.Next().ok());
  EXPECT_FALSE(channel.full());
}

TEST(RunChannelTest, TheCallerWakesTheEngine) {
  auto wake = std::make_shared<WakeSignal>();
  RunChannel channel(0, wake);
  const auto expect_awake = [&] { wake->Wait(absl::InfiniteDuration()); };
  ASSERT_TRUE(channel.Feed(std::vector<int32_t>{1}).ok());
  expect_awake();
  ASSERT_TRUE(channel.CloseInput().ok());
  expect_awake();
  for (size_t i = 0; i < RunChannel::kMaxEvents; ++i) channel.Push(Event(RunEvent::Kind::kToken));
  ASSERT_TRUE(channel.Next().ok());
  expect_awake();
  channel.Cancel();
  expect_awake();
  EXPECT_TRUE(channel.cancelled());
}

}  // namespace
}  // namespace weir
