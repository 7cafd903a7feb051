#include "kernels/cuda/grouped_matmul.h"

#include <cassert>
#include <cstddef>

#include "kernels/cuda/common/bfloat16_tensor.h"
#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/decode/few_rows_matmul.h"
#include "kernels/cuda/elementwise.h"

namespace weir {
namespace {

absl::Status MultiplyFewRows(Tensor x, const CudaMatrix& weights, bool gated, Tensor out,
                             cudaStream_t stream) {
  return CudaStatus(LaunchFewRowsMatMul({.x = BFloat16s(x),
                                         .x_stride = x.cols,
                                         .weights = weights.data(),
                                         .rows = static_cast<int>(x.rows),
                                         .outputs = static_cast<int>(out.cols),
                                         .cols = static_cast<int>(x.cols),
                                         .out = out.data,
                                         .out_stride = out.cols,
                                         .out_is_float32 = out.type == ElementType::kFloat32,
                                         .gated = gated},
                                        stream),
                    "the GPU");
}

// Calls chunk(first row, rows) for every long group, and few(first row, rows) for as many others
// that follow one another as the kernel for few rows takes. Ends with the first error.
template <typename Chunk, typename Few>
absl::Status ForEachProduct(absl::Span<const RowGroup> groups, Chunk chunk, Few few) {
  for (size_t i = 0; i < groups.size();) {
    const int first = groups[i].first_row;
    int rows = groups[i].rows;
    const bool long_group = rows > FewRowsMatMul::kMostRows;
    // A long group leaves no room for another.
    for (++i; i < groups.size() && groups[i].first_row == first + rows &&
              rows + groups[i].rows <= FewRowsMatMul::kMostRows;
         ++i) {
      rows += groups[i].rows;
    }
    const absl::Status status = long_group ? chunk(first, rows) : few(first, rows);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GroupedMatMul> GroupedMatMul::Create() {
  absl::StatusOr<std::unique_ptr<BlasMatMul>> blas = BlasMatMul::Create();
  if (!blas.ok()) return blas.status();
  return GroupedMatMul(*std::move(blas));
}

absl::Status GroupedMatMul::Run(absl::Span<const RowGroup> groups, Tensor x,
                                const CudaMatrix& weights, Tensor out, cudaStream_t stream) {
  assert(weights.cols() == x.cols && weights.rows() == out.cols);
  return ForEachProduct(
      groups,
      [&](int first, int rows) {
        return blas_->Run(x.Rows(first, rows), weights.data(), out.Rows(first, rows), stream);
      },
      [&](int first, int rows) {
        return MultiplyFewRows(x.Rows(first, rows), weights, /*gated=*/false, out.Rows(first, rows),
                               stream);
      });
}

absl::Status GroupedMatMul::RunSwiGlu(absl::Span<const RowGroup> groups, Tensor x,
                                      const CudaMatrix& weights, Tensor gate_up, Tensor out,
                                      cudaStream_t stream) {
  assert(weights.cols() == x.cols && weights.rows() == gate_up.cols);
  assert(gate_up.cols == 2 * out.cols);
  return ForEachProduct(
      groups,
      [&](int first, int rows) {
        const Tensor both = gate_up.Rows(first, rows);
        absl::Status status = blas_->Run(x.Rows(first, rows), weights.data(), both, stream);
        if (!status.ok()) return status;
        return CudaStatus(LaunchSwiGlu(BFloat16s(both), rows, static_cast<int>(out.cols),
                                       BFloat16s(out.Rows(first, rows)), stream),
                          "the GPU");
      },
      [&](int first, int rows) {
        return MultiplyFewRows(x.Rows(first, rows), weights, /*gated=*/true, out.Rows(first, rows),
                               stream);
      });
}

}  // namespace weir
