#ifndef WEIR_KERNELS_CPU_LIKELIEST_H_
#define WEIR_KERNELS_CPU_LIKELIEST_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/likeliest.h"
#include "kernels/tensor.h"

namespace weir {

// Backend::SummarizeLogits. A row's result depends on that row alone, not on the threads.
class LikeliestKernel {
 public:
  explicit LikeliestKernel(ThreadPool& pool) : pool_(pool) {}

  void Run(Tensor logits, int32_t first_token, int32_t tokens,
           absl::Span<const LikeliestRequest> requests, Tensor out);

 private:
  ThreadPool& pool_;
  std::vector<float> parts_;  // summary tensors of slices of the rows
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_LIKELIEST_H_
