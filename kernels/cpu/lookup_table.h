#ifndef WEIR_KERNELS_CPU_LOOKUP_TABLE_H_
#define WEIR_KERNELS_CPU_LOOKUP_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"
#include "kernels/weight_type.h"

namespace weir {

// Rows of weights kept as they lie in the file, to be looked up. Immutable after Copy.
class LookupTable final : public Matrix {
 public:
  static absl::StatusOr<std::unique_ptr<LookupTable>> Copy(absl::Span<const WeightRow> rows,
                                                           int64_t cols);

  int64_t rows() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return memory_.bytes(); }

  // out[i] = row indices[i], as float32.
  void Read(ThreadPool& pool, absl::Span<const int32_t> indices, Tensor out) const;

 private:
  explicit LookupTable(int64_t cols) : cols_(cols) {}

  int64_t cols_;
  AlignedMemory memory_;
  std::vector<WeightRow> rows_;  // in memory_
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_LOOKUP_TABLE_H_
