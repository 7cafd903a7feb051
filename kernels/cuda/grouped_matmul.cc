#include "kernels/cuda/grouped_matmul.h"

#include <cuda_bf16.h>

#include <cassert>
#include <cstddef>

#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/decode/few_rows_matmul.h"

namespace weir {
namespace {

cudaError_t MultiplyFewRows(Tensor x, const CudaMatrix& weights, Tensor out, cudaStream_t stream) {
  return LaunchFewRowsMatMul({.x = static_cast<const __nv_bfloat16*>(x.data),
                              .x_stride = x.cols,
                              .weights = weights.data(),
                              .rows = static_cast<int>(x.rows),
                              .outputs = static_cast<int>(out.cols),
                              .cols = static_cast<int>(x.cols),
                              .out = out.data,
                              .out_stride = out.cols,
                              .out_is_float32 = out.type == ElementType::kFloat32},
                             stream);
}

}  // namespace

absl::StatusOr<GroupedMatMul> GroupedMatMul::Create() {
  absl::StatusOr<std::unique_ptr<BlasMatMul>> blas = BlasMatMul::Create();
  if (!blas.ok()) return blas.status();
  return GroupedMatMul(*std::move(blas));
}

absl::Status GroupedMatMul::Run(absl::Span<const RowGroup> groups, Tensor x,
                                const CudaMatrix& weights, Tensor out, cudaStream_t stream) {
  assert(x.type == ElementType::kBFloat16);
  assert(weights.cols() == x.cols && weights.rows() == out.cols);
  for (size_t i = 0; i < groups.size();) {
    const int first = groups[i].first_row;
    int rows = groups[i].rows;
    ++i;
    absl::Status status;
    if (rows > FewRowsMatMul::kMostRows) {
      status = blas_->Run(x.Rows(first, rows), weights.data(), out.Rows(first, rows), stream);
    } else {
      for (; i < groups.size() && groups[i].first_row == first + rows &&
             rows + groups[i].rows <= FewRowsMatMul::kMostRows;
           ++i) {
        rows += groups[i].rows;
      }
      status = CudaStatus(
          MultiplyFewRows(x.Rows(first, rows), weights, out.Rows(first, rows), stream), "the GPU");
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace weir
