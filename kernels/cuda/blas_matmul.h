#ifndef WEIR_KERNELS_CUDA_BLAS_MATMUL_H_
#define WEIR_KERNELS_CUDA_BLAS_MATMUL_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/tensor.h"

namespace weir {

// Matrix products of many rows by cuBLASLt, bfloat16 with float32 sums. The algorithm follows from
// the product's sizes alone, so the same product gives the same bits. Not thread-safe.
class BlasMatMul {
 public:
  // Allocates the workspace, on the current device.
  static absl::StatusOr<std::unique_ptr<BlasMatMul>> Create();
  ~BlasMatMul();
  BlasMatMul(const BlasMatMul&) = delete;
  BlasMatMul& operator=(const BlasMatMul&) = delete;

  // out[r] = weights * x[r]; weights [out.cols][x.cols] bfloat16, x bfloat16, out either type.
  absl::Status Run(Tensor x, const void* weights, Tensor out, cudaStream_t stream);

 private:
  struct Product {
    int64_t rows, outputs, cols;
    ElementType out_type;

    friend bool operator==(const Product&, const Product&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Product& p) {
      return H::combine(std::move(h), p.rows, p.outputs, p.cols, p.out_type);
    }
  };
  // How a product is carried out.
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weights = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t out = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
  };

  explicit BlasMatMul(const CublasLt* lib) : lib_(lib) {}
  absl::StatusOr<const Plan*> FindPlan(const Product& product);
  absl::Status MakePlan(const Product& product, Plan& plan) const;

  const CublasLt* const lib_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory workspace_;
  absl::flat_hash_map<Product, Plan> plans_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_BLAS_MATMUL_H_
