#include "kernels/cuda/blas_matmul.h"

#include <cassert>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr int64_t kWorkspaceBytes = 64 << 20;

absl::Status BlasStatus(const CublasLt& lib, cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuBLAS: ", what, ": ", lib.GetStatusString(status)));
}

cudaDataType_t CudaType(ElementType type) {
  return type == ElementType::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlasMatMul>> BlasMatMul::Create() {
  const absl::StatusOr<const CublasLt*> lib = LoadCublasLt();
  if (!lib.ok()) return lib.status();
  std::unique_ptr<BlasMatMul> blas(new BlasMatMul(*lib));
  const absl::Status created =
      BlasStatus(**lib, (*lib)->Create(&blas->handle_), "creating a handle");
  if (!created.ok()) return created;
  absl::StatusOr<DeviceMemory> workspace =
      AllocateDevice(kWorkspaceBytes, "the matrix products' workspace");
  if (!workspace.ok()) return workspace.status();
  blas->workspace_ = *std::move(workspace);
  return blas;
}

BlasMatMul::~BlasMatMul() {
  for (auto& [product, plan] : plans_) {
    lib_->MatmulDescDestroy(plan.operation);
    lib_->MatrixLayoutDestroy(plan.weights);
    lib_->MatrixLayoutDestroy(plan.x);
    lib_->MatrixLayoutDestroy(plan.out);
  }
  if (handle_ != nullptr) lib_->Destroy(handle_);
}

// cuBLAS counts by columns: our rows are its columns, so it computes out^T = weights^T^T * x^T.
absl::Status BlasMatMul::MakePlan(const Product& product, Plan& plan) const {
  const auto [rows, outputs, cols, out_type] = product;
  cublasStatus_t status = lib_->MatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_->MatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                          sizeof(transpose));
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_->MatrixLayoutCreate(&plan.weights, CUDA_R_16BF, cols, outputs, cols);
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_->MatrixLayoutCreate(&plan.x, CUDA_R_16BF, cols, rows, cols);
  }
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_->MatrixLayoutCreate(&plan.out, CudaType(out_type), outputs, rows, outputs);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  if (status == CUBLAS_STATUS_SUCCESS) status = lib_->MatmulPreferenceCreate(&preference);
  if (status == CUBLAS_STATUS_SUCCESS) {
    const size_t bytes = kWorkspaceBytes;
    status = lib_->MatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
  }
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = lib_->MatmulAlgoGetHeuristic(handle_, plan.operation, plan.weights, plan.x, plan.out,
                                          plan.out, preference, 1, &result, &found);
  }
  if (preference != nullptr) lib_->MatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_SUCCESS && found == 0) status = CUBLAS_STATUS_NOT_SUPPORTED;
  plan.algorithm = result.algo;
  return BlasStatus(*lib_, status, "planning a product");
}

absl::StatusOr<const BlasMatMul::Plan*> BlasMatMul::FindPlan(const Product& product) {
  const auto [entry, is_new] = plans_.try_emplace(product);
  if (is_new) {
    if (absl::Status made = MakePlan(product, entry->second); !made.ok()) return made;
  }
  return &entry->second;
}

absl::Status BlasMatMul::Run(Tensor x, const void* weights, Tensor out, cudaStream_t stream) {
  assert(x.type == ElementType::kBFloat16 && x.rows == out.rows);
  const absl::StatusOr<const Plan*> plan = FindPlan({x.rows, out.cols, x.cols, out.type});
  if (!plan.ok()) return plan.status();
  const float one = 1.0f;
  const float zero = 0.0f;
  return BlasStatus(
      *lib_,
      lib_->Matmul(handle_, (*plan)->operation, &one, weights, (*plan)->weights, x.data, (*plan)->x,
                   &zero, out.data, (*plan)->out, out.data, (*plan)->out, &(*plan)->algorithm,
                   workspace_.as<void>(), workspace_.bytes(), stream),
      "a product");
}

}  // namespace weir
