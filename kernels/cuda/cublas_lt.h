#ifndef WEIR_KERNELS_CUDA_CUBLAS_LT_H_
#define WEIR_KERNELS_CUDA_CUBLAS_LT_H_

#include <cublasLt.h>

#include "absl/status/statusor.h"

namespace weir {

// The functions of cuBLASLt that Weir calls, by their own names, found in the shared library when
// they are first needed. Linking it instead would keep an executable from starting on a machine
// without CUDA, and would take 94 KB of every thread's stack for its thread-local variables.
struct CublasLt {
  decltype(&cublasLtCreate) Create;
  decltype(&cublasLtDestroy) Destroy;
  decltype(&cublasLtGetStatusString) GetStatusString;
  decltype(&cublasLtMatmul) Matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) MatmulAlgoGetHeuristic;
  decltype(&cublasLtMatmulDescCreate) MatmulDescCreate;
  decltype(&cublasLtMatmulDescDestroy) MatmulDescDestroy;
  decltype(&cublasLtMatmulDescSetAttribute) MatmulDescSetAttribute;
  decltype(&cublasLtMatmulPreferenceCreate) MatmulPreferenceCreate;
  decltype(&cublasLtMatmulPreferenceDestroy) MatmulPreferenceDestroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) MatmulPreferenceSetAttribute;
  decltype(&cublasLtMatrixLayoutCreate) MatrixLayoutCreate;
  decltype(&cublasLtMatrixLayoutDestroy) MatrixLayoutDestroy;
};

// Loads the library, once in a process: from the toolkit that the executable was built with, from
// lib/ beside it, or from where the system has it. NOT_FOUND where there is none. Thread-safe.
absl::StatusOr<const CublasLt*> LoadCublasLt();

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUBLAS_LT_H_
