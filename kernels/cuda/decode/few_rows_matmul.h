#ifndef WEIR_KERNELS_CUDA_DECODE_FEW_ROWS_MATMUL_H_
#define WEIR_KERNELS_CUDA_DECODE_FEW_ROWS_MATMUL_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// The matrix product of decoding: few rows, so that reading the weights is all its time.
//
//   out[r][n] = sum over k of x[r][k] * weights[n][k]
//
// or, gated, with gate and up the two halves of the weights' products, each rounded to bfloat16,
//
//   out[r][n] = silu(gate[r][n]) * up[r][n]
//
// Products are added in float32, in an order that depends on `cols` alone: a row's result is the
// same bits whatever other rows there are, and however many.
struct FewRowsMatMul {
  static constexpr int kMostRows = 64;

  const __nv_bfloat16* x;        // [rows][cols], 16-byte aligned
  int64_t x_stride;              // between rows, in elements; a multiple of 8
  const __nv_bfloat16* weights;  // [outputs][cols]; gated, [2][outputs][cols]; 16-byte aligned
  int rows;                      // 1 to kMostRows
  int outputs;                   // at least 1
  int cols;                      // a multiple of 8, at least 8
  void* out;                     // [rows][outputs], bfloat16 or float32; overlaps neither operand
  int64_t out_stride;            // between rows, in elements
  bool out_is_float32;           // not if gated
  bool gated = false;            // the second of the two above
};

// Enqueues the product on the current device, of compute capability 8.0 or newer: one launch,
// without workspace, that may be captured in a graph. It is a dependent launch
// (dependent_launch.cuh) that fetches weights while earlier work of the stream still runs, so what
// writes the weights must have been waited for by the host. Thread-safe. Returns the launch's
// error.
cudaError_t LaunchFewRowsMatMul(const FewRowsMatMul& work, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_FEW_ROWS_MATMUL_H_
