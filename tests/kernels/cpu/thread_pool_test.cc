#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(ThreadPoolTest, DoesEveryItemOnce) {
  for (int threads = 1; threads <= 5; ++threads) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int loop = 0; loop < 2000; ++loop) {
      const int64_t items = loop % 40;
      std::vector<int> done(items);
      std::atomic<bool> known_thread = true;
      pool.For(items, [&](int64_t item, int thread) {
        ++done[item];
        if (thread < 0 || thread >= threads) known_thread = false;
      });
      EXPECT_EQ(done, std::vector<int>(items, 1));
      EXPECT_TRUE(known_thread);
    }
  }
}

TEST(ThreadPoolTest, RangesCoverAllItems) {
  for (int threads = 1; threads <= 3; ++threads) {
    ThreadPool pool(threads);
    for (int64_t items = 0; items < 200; items += 7) {
      for (int64_t grain = 1; grain < 50; grain += 6) {
        std::vector<int> done(items);
        pool.ForRanges(items, grain, [&](int64_t begin, int64_t end, int) {
          EXPECT_TRUE(begin < end && end <= items);
          EXPECT_EQ(begin % grain, 0);
          for (int64_t item = begin; item < end; ++item) ++done[item];
        });
        EXPECT_EQ(done, std::vector<int>(items, 1));
      }
    }
  }
}

TEST(ThreadPoolTest, HelpersShareALongLoop) {
  ThreadPool pool(2);
  // Each item waits for the other one to begin: only two threads can do that.
  std::atomic<int> begun = 0;
  pool.For(2, [&](int64_t, int) {
    ++begun;
    while (begun < 2) std::this_thread::yield();
  });
  EXPECT_EQ(begun, 2);
}

TEST(ThreadPoolTest, HelpersWakeAfterAPause) {
  ThreadPool pool(2);
  for (int loop = 0; loop < 3; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> begun = 0;
    pool.For(2, [&](int64_t, int) {
      ++begun;
      while (begun < 2) std::this_thread::yield();
    });
  }
}

}  // namespace
}  // namespace weir
