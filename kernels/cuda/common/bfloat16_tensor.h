#ifndef WEIR_KERNELS_CUDA_COMMON_BFLOAT16_TENSOR_H_
#define WEIR_KERNELS_CUDA_COMMON_BFLOAT16_TENSOR_H_

#include <cuda_bf16.h>

#include <cassert>

#include "kernels/tensor.h"

namespace weir {

// The elements of a tensor of bfloat16s, such as activations.
inline __nv_bfloat16* BFloat16s(Tensor x) {
  assert(x.type == ElementType::kBFloat16);
  return static_cast<__nv_bfloat16*>(x.data);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_BFLOAT16_TENSOR_H_
