#ifndef WEIR_KERNELS_CPU_ADMISSION_H_
#define WEIR_KERNELS_CPU_ADMISSION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cpu/cpu_kv_storage.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/sequence_step.h"
#include "kernels/tensor.h"

namespace weir {

// Backend::Admit. Per session and KV head, in two passes:
//   1. level by level, fold runs of arrivals into their winners by score; only names of sources are
//      handled: slots of the cache or rows of the step;
//   2. from the deepest ring up, move each winner's key, value, score and token to its slot. A
//      source always lies in a shallower ring, so it is read before it is overwritten.
class AdmissionKernel {
 public:
  explicit AdmissionKernel(ThreadPool& pool) : pool_(pool), scratch_(pool.threads()) {}

  void Run(CpuKvStorage& kv, int layer, absl::Span<const SequenceStep> steps, Tensor qkv,
           Tensor row_scores);

 private:
  // A slot of the session (slot >= 0) or row `row` of the step.
  struct Source {
    int slot;  // from the session's first slot; -1 for a row
    int row;
    int rotation;  // the key's: its slot inside the sinks or its ring
    float score;
  };
  struct Move {
    Source from;
    int slot;
    int rotation;
  };
  struct HeadScratch {
    std::vector<Source> arrivals;
    std::vector<Source> winners;  // new entries of the level
    std::vector<Source> evicted;
    std::vector<Move> moves;          // of all levels, shallow to deep
    std::vector<size_t> level_begin;  // first move of each level
    std::vector<int64_t> swaps;       // [levels]
  };

  static void Choose(const HeadSlots& slots, const SequenceStep& step, const float* row_scores,
                     HeadScratch& scratch);
  static void AdmitHead(const CpuKvStorage& kv, int layer, int kv_head, const SequenceStep& step,
                        Tensor qkv, const float* row_scores, HeadScratch& scratch);

  ThreadPool& pool_;
  std::vector<HeadScratch> scratch_;  // [threads]
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_ADMISSION_H_
