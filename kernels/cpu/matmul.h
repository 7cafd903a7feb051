#ifndef WEIR_KERNELS_CPU_MATMUL_H_
#define WEIR_KERNELS_CPU_MATMUL_H_

#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace weir {

// Tiles unpacked together, and columns of them: 30 KB of float32, which stay in the first cache.
inline constexpr int64_t kPanelTiles = 3;
inline constexpr int64_t kPanelColumns = 160;

// Backend::MatMul. Weights are read from memory once for all rows: tiles are unpacked into the
// cache and multiplied with every activation row; for a few rows they are unpacked in registers.
// Either way each output is one chain of float32 multiply-adds over the columns, in ascending
// order, so it depends on its own activation row and weights alone, bit for bit.
class MatMulKernel {
 public:
  explicit MatMulKernel(ThreadPool& pool) : pool_(pool), panels_(pool.threads()) {}

  void Run(absl::Span<const RowGroup> groups, Tensor x, const PackedMatrix& weights, Tensor out);

 private:
  ThreadPool& pool_;
  std::vector<Scratch> panels_;  // [threads] unpacked weights
  std::vector<RowGroup> runs_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_MATMUL_H_
