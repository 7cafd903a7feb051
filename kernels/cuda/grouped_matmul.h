#ifndef WEIR_KERNELS_CUDA_GROUPED_MATMUL_H_
#define WEIR_KERNELS_CUDA_GROUPED_MATMUL_H_

#include <cuda_runtime.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/blas_matmul.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/tensor.h"

namespace weir {

// Products of a step's rows, group by group (see RowGroup). Few rows go through a kernel that
// treats each alone; a long group is a chunk, whose rows belong together, and goes through cuBLAS
// by itself. Not thread-safe.
class GroupedMatMul {
 public:
  // On the current device.
  static absl::StatusOr<GroupedMatMul> Create();

  // out[r] = weights * x[r] for every row of every group.
  absl::Status Run(absl::Span<const RowGroup> groups, Tensor x, const CudaMatrix& weights,
                   Tensor out, cudaStream_t stream);
  // out[r] = silu(gate) * up of the same, where weights' rows are gate | up. Long groups leave
  // [gate | up] in `gate_up`, few rows nothing.
  absl::Status RunSwiGlu(absl::Span<const RowGroup> groups, Tensor x, const CudaMatrix& weights,
                         Tensor gate_up, Tensor out, cudaStream_t stream);

 private:
  explicit GroupedMatMul(std::unique_ptr<BlasMatMul> blas) : blas_(std::move(blas)) {}

  std::unique_ptr<BlasMatMul> blas_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_GROUPED_MATMUL_H_
