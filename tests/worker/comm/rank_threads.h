#ifndef WEIR_TESTS_WORKER_COMM_RANK_THREADS_H_
#define WEIR_TESTS_WORKER_COMM_RANK_THREADS_H_

#include <thread>
#include <vector>

namespace weir {

// Calls body(rank) on a thread of its own for every rank and waits for all of them.
template <typename Body>
void RunRanks(int size, Body body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back([rank, &body] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_RANK_THREADS_H_
