#ifndef WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ADD_NORM_H_
#define WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ADD_NORM_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/peers/one_shot_all_reduce.h"

namespace weir {

// What lies between two products of a layer that ranks share, for few rows, in one kernel: a sum
// over ranks as one_shot_all_reduce.h tells, with what is done to the sum.
struct OneShotAddNorm {
  int rows;
  int width;  // a multiple of 8
  // Aligned to 16 bytes.
  const __nv_bfloat16* delta;  // [rows][width] this rank's part of the sum
  float* residual;             // [rows][width]
  const float* weight;         // [width]
  float epsilon;
  __nv_bfloat16* normed;  // [rows][width]

  // A block a row, and rows no larger than what an inbox takes.
  bool Fits() const {
    return rows <= kOneShotMostBlocks && width % 8 == 0 &&
           static_cast<int64_t>(rows) * width * static_cast<int64_t>(sizeof(*delta)) <=
               kOneShotMostBytes;
  }
};

// residual += the sum of the ranks' deltas, added in rank order in float32 and rounded once to
// bfloat16; normed = residual / rms(residual) * weight. The bits are those of LaunchOneShotSum and
// LaunchRmsNorm. A call like those of one_shot_all_reduce.h, which may stand among them. `work`
// fits. Takes part in dependent launches.
cudaError_t LaunchOneShotAddNorm(const OneShotRanks& ranks, const OneShotAddNorm& work,
                                 cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_ADD_NORM_H_
