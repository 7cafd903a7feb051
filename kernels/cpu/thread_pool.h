#ifndef WEIR_KERNELS_CPU_THREAD_POOL_H_
#define WEIR_KERNELS_CPU_THREAD_POOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace weir {

// Threads that help one owner with loops of a few microseconds.
//
// A helper that comes late is not waited for: the owner takes the remaining items itself, and only
// items that were begun hold it up. So on a machine with busy neighbours a loop is as fast as the
// threads that do get time. Helpers spin for some microseconds before they sleep, since a model's
// operations follow each other closely.
class ThreadPool {
 public:
  static constexpr int kMaxThreads = 1024;

  // `threads` compute, the owner included; 1 to kMaxThreads.
  explicit ThreadPool(int threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls body(item, thread) for every item in [0, items), thread in [0, threads()), and returns
  // when all are done. What an item computes must not depend on the thread. Items are begun in
  // order. Only the owner may call this, and not from a body.
  template <typename Body>
  void For(int64_t items, const Body& body) {
    if (helpers_.empty() || items <= 1) {
      for (int64_t item = 0; item < items; ++item) body(item, 0);
      return;
    }
    Run(
        items,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body);
  }

  // Cuts [0, items) into ranges of `grain` items or somewhat more, no more ranges than balance the
  // threads, and calls body(begin, end, thread) for each.
  template <typename Body>
  void ForRanges(int64_t items, int64_t grain, const Body& body) {
    if (items <= 0) return;
    const int64_t range = RangeSize(items, grain);
    For((items + range - 1) / range, [&](int64_t index, int thread) {
      body(index * range, std::min(items, (index + 1) * range), thread);
    });
  }

 private:
  using Function = void (*)(const void* context, int64_t item, int thread);

  int64_t RangeSize(int64_t items, int64_t grain) const;
  void Run(int64_t items, Function function, const void* context);
  void Work(int thread);
  void Help(int thread);

  // Which loop is under way: its number, whether helpers may still join it, how many have.
  std::atomic<uint32_t> state_{0};
  // The loop. Written by the owner while nobody is in it.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  int64_t items_ = 0;
  alignas(64) std::atomic<int64_t> next_item_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_THREAD_POOL_H_
