#ifndef WEIR_KERNELS_CUDA_COMMON_ROPE_H_
#define WEIR_KERNELS_CUDA_COMMON_ROPE_H_

namespace weir {

// RopeTable in device memory.
struct DeviceRope {
  const float* cos;  // [rotations][head_dim / 2]
  const float* sin;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_ROPE_H_
