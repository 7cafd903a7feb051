#include "kernels/cuda/prefill/tensor_map.h"

#include <cudaTypedefs.h>

#include <cstdint>

namespace weir {
namespace {

constexpr cuuint32_t kBoxDims = 64;

// The driver's function, found at run time so that the executable starts without a driver.
PFN_cuTensorMapEncodeTiled_v12000 FindEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

cudaError_t MakeTensorMap(const ChunkAttention::View& view, int rows, int heads, int head_dim,
                          int box_rows, CUtensorMap* map) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = FindEncode();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t extents[3] = {static_cast<cuuint64_t>(head_dim), static_cast<cuuint64_t>(rows),
                                 static_cast<cuuint64_t>(heads)};
  const cuuint64_t strides[2] = {view.row_stride * sizeof(__nv_bfloat16),
                                 view.head_stride * sizeof(__nv_bfloat16)};
  const cuuint32_t box[3] = {kBoxDims, static_cast<cuuint32_t>(box_rows), 1};
  const cuuint32_t element_strides[3] = {1, 1, 1};
  const CUresult result = encode(
      map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<__nv_bfloat16*>(view.data), extents,
      strides, box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace weir
