#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

const std::string& LibraryName() {
  static const std::string name =
      absl::StrCat("libcublasLt.so.", static_cast<int>(CUBLAS_VER_MAJOR));
  return name;
}

absl::StatusOr<CublasLt> Load() {
  void* library = dlopen(LibraryName().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        "cuBLAS is missing, which the CUDA backend multiplies with (", dlerror(), "): put ",
        LibraryName(), " into lib/ beside the executable, or use --device=cpu"));
  }
  CublasLt functions = {};
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find(functions.Create, "cublasLtCreate");
  find(functions.Destroy, "cublasLtDestroy");
  find(functions.GetStatusString, "cublasLtGetStatusString");
  find(functions.Matmul, "cublasLtMatmul");
  find(functions.MatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(functions.MatmulDescCreate, "cublasLtMatmulDescCreate");
  find(functions.MatmulDescDestroy, "cublasLtMatmulDescDestroy");
  find(functions.MatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute");
  find(functions.MatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate");
  find(functions.MatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  find(functions.MatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute");
  find(functions.MatrixLayoutCreate, "cublasLtMatrixLayoutCreate");
  find(functions.MatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy");
  if (!missing.empty()) {
    return absl::NotFoundError(
        absl::StrCat(LibraryName(), " has no function ", missing, ": it is of another version"));
  }
  return functions;
}

}  // namespace

absl::StatusOr<const CublasLt*> LoadCublasLt() {
  static const auto& loaded = *new absl::StatusOr<CublasLt>(Load());
  if (!loaded.ok()) return loaded.status();
  return &*loaded;
}

}  // namespace weir
