#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <cassert>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weir {
namespace {

// The parts of state_: helpers inside in the low bits, then whether the loop is open, then its
// number, which may wrap: a helper that slept through so many loops merely misses one more.
constexpr uint32_t kInside = (1u << 10) - 1;
constexpr uint32_t kOpen = 1u << 10;
constexpr uint32_t kNumber = 1u << 11;
static_assert(ThreadPool::kMaxThreads - 1 <= kInside, "all helpers may be inside");

constexpr int kSpins = 1000;  // 20 to 60 microseconds

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  assert(threads >= 1 && threads <= kMaxThreads);
  helpers_.reserve(threads - 1);
  for (int thread = 1; thread < threads; ++thread) {
    helpers_.emplace_back([this, thread] { Help(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  state_.fetch_add(kNumber);
  state_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

int64_t ThreadPool::RangeSize(int64_t items, int64_t grain) const {
  constexpr int64_t kRangesPerThread = 8;
  const int64_t ranges = kRangesPerThread * threads();
  const int64_t fair = (items + ranges - 1) / ranges;
  return threads() == 1 ? items : (fair + grain - 1) / grain * grain;
}

void ThreadPool::Work(int thread) {
  for (;;) {
    const int64_t item = next_item_.fetch_add(1, std::memory_order_relaxed);
    if (item >= items_) return;
    function_(context_, item, thread);
  }
}

void ThreadPool::Run(int64_t items, Function function, const void* context) {
  function_ = function;
  context_ = context;
  items_ = items;
  next_item_.store(0, std::memory_order_relaxed);
  const uint32_t number = (state_.load(std::memory_order_relaxed) & ~(kNumber - 1)) + kNumber;
  state_.store(number | kOpen, std::memory_order_release);
  state_.notify_all();

  Work(0);

  uint32_t state = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  for (int spins = 0; (state & kInside) != 0; ++spins) {
    if (spins < kSpins) {
      Pause();
    } else {
      state_.wait(state, std::memory_order_acquire);
    }
    state = state_.load(std::memory_order_acquire);
  }
}

void ThreadPool::Help(int thread) {
  uint32_t done = 0;  // the loop that has nothing more to do
  for (;;) {
    uint32_t state = state_.load(std::memory_order_acquire);
    for (int spins = 0; (state & ~(kNumber - 1)) == done || (state & kOpen) == 0; ++spins) {
      if (stop_.load(std::memory_order_relaxed)) return;
      if (spins < kSpins) {
        Pause();
      } else {
        state_.wait(state, std::memory_order_acquire);
      }
      state = state_.load(std::memory_order_acquire);
    }
    // Join, if it is still open.
    if (!state_.compare_exchange_strong(state, state + 1, std::memory_order_acq_rel)) continue;
    done = state & ~(kNumber - 1);
    Work(thread);
    const uint32_t left = state_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if ((left & kInside) == 0) state_.notify_all();  // the owner may sleep
  }
}

}  // namespace weir
