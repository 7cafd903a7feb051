#ifndef WEIR_KERNELS_CPU_LIKELIEST_H_
#define WEIR_KERNELS_CPU_LIKELIEST_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/likeliest.h"
#include "kernels/tensor.h"

namespace weir {

// Reduces logits to what is needed to choose tokens, and to score them. `logits` is float32 [rows,
// width]; its first `tokens` columns are the tokens [first_token, first_token + tokens) of the
// vocabulary, the rest is padding. A row's result depends on that row alone, not on the threads.
class LikeliestKernel {
 public:
  explicit LikeliestKernel(ThreadPool& pool) : pool_(pool) {}

  // Row r does as requests[r] says. `out` is the summary tensor (see likeliest.h) of all rows, with
  // room for what any of them asks.
  void Summarize(Tensor logits, int64_t first_token, int64_t tokens,
                 absl::Span<const LikeliestRequest> requests, Tensor out);

  // out[r] is the TargetSummary of token targets[r], which may be in another part of the
  // vocabulary. `out` is float32 [rows, kTargetColumns].
  void SummarizeTargets(Tensor logits, int64_t first_token, int64_t tokens,
                        absl::Span<const int32_t> targets, Tensor out);

 private:
  ThreadPool& pool_;
  std::vector<float> parts_;  // summary tensors of slices of the rows
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_LIKELIEST_H_
