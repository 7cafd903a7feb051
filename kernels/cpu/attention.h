#ifndef WEIR_KERNELS_CPU_ATTENTION_H_
#define WEIR_KERNELS_CPU_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/attention_task.h"
#include "kernels/cpu/cpu_kv_storage.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/sequence_step.h"
#include "kernels/tensor.h"

namespace weir {

// Backend::Attend.
//
// Work is cut by sequence, KV head and slab of rows; the cut follows from the sequence's own step,
// so results depend on neither the batch nor the threads. In a slab, blocks of rows times all query
// heads of the KV head make one product with the keys, one softmax over everything they see, and
// one product with the values. The columns' sums of a slab are its share of the scores; shares are
// added in the order of rows.
class AttentionKernel {
 public:
  explicit AttentionKernel(ThreadPool& pool) : pool_(pool), block_scratch_(pool.threads()) {}

  void Run(CpuKvStorage& kv, int layer, absl::Span<const SequenceStep> steps, Tensor qkv,
           Tensor out, Tensor row_scores);

 private:
  // Rows of a task that one thread works on.
  struct Slab {
    int task;
    int first_row;
    int end_row;
    int64_t column_sums;  // offset: [group][columns]
  };

  // Sets tasks_ and slabs_. Returns where the column sums go.
  float* Plan(const CpuKvStorage& kv, int layer, absl::Span<const SequenceStep> steps, Tensor qkv,
              Tensor out);

  ThreadPool& pool_;
  std::vector<AttentionTask> tasks_;
  std::vector<int> first_slab_;  // [tasks + 1]
  std::vector<Slab> slabs_;
  Scratch own_keys_;
  Scratch row_weights_;
  Scratch column_sums_;
  std::vector<Scratch> block_scratch_;  // [threads]
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_ATTENTION_H_
