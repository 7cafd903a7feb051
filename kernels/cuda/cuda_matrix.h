#ifndef WEIR_KERNELS_CUDA_CUDA_MATRIX_H_
#define WEIR_KERNELS_CUDA_CUDA_MATRIX_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_memory.h"

namespace weir {

// Weights in device memory, [rows][cols] bfloat16, whatever their type in the file is.
class CudaMatrix final : public Matrix {
 public:
  CudaMatrix(DeviceMemory memory, int64_t rows, int64_t cols)
      : memory_(std::move(memory)), rows_(rows), cols_(cols) {}

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return memory_.bytes(); }
  const __nv_bfloat16* data() const { return memory_.as<__nv_bfloat16>(); }

 private:
  DeviceMemory memory_;
  int64_t rows_;
  int64_t cols_;
};

// Brings weights to the device through a small block of host memory. UNIMPLEMENTED when rows are
// not a multiple of 8 weights long.
class WeightUploader {
 public:
  static absl::StatusOr<WeightUploader> Create();

  absl::StatusOr<std::unique_ptr<Matrix>> Upload(absl::Span<const WeightRow> rows, int64_t cols);

 private:
  explicit WeightUploader(PinnedMemory staging) : staging_(std::move(staging)) {}

  PinnedMemory staging_;
  std::vector<float> values_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_MATRIX_H_
