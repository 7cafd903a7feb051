#ifndef WEIR_KERNELS_CUDA_COMMON_SWIGLU_CUH_
#define WEIR_KERNELS_CUDA_COMMON_SWIGLU_CUH_

namespace weir {

// silu(gate) * up.
__device__ inline float SwiGlu(float gate, float up) {
  return gate * (up / (1.0f + __expf(-gate)));
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_SWIGLU_CUH_
