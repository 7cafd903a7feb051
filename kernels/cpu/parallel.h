#ifndef WEIR_KERNELS_CPU_PARALLEL_H_
#define WEIR_KERNELS_CPU_PARALLEL_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace weir {

// Calls body(item, thread) for every item in [0, items), on up to `threads` threads, whichever is
// free next. Every calling thread has a pool of its own. With one thread, or one item, the body
// runs here. What an item computes must not depend on the thread.
template <typename Body>
void ParallelFor(int threads, int64_t items, const Body& body) {
  if (threads == 1 || items <= 1) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t item = 0; item < items; ++item) body(item, omp_get_thread_num());
}

// Calls body(begin, end, thread) for ranges that make up [0, items): one per thread, equal but for
// one item, in order.
template <typename Body>
void ParallelRanges(int threads, int64_t items, const Body& body) {
  if (items == 0) return;
  if (threads == 1 || items == 1) {
    body(0, items, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int64_t thread = omp_get_thread_num();
    const int64_t count = omp_get_num_threads();
    const int64_t begin = items * thread / count;
    const int64_t end = items * (thread + 1) / count;
    if (begin < end) body(begin, end, static_cast<int>(thread));
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_PARALLEL_H_
