#ifndef WEIR_KERNELS_CUDA_PREFILL_ONLINE_SOFTMAX_H_
#define WEIR_KERNELS_CUDA_PREFILL_ONLINE_SOFTMAX_H_

#include <cmath>

#include "kernels/cuda/common/ptx.h"

namespace weir {

// Over the four lanes that share an accumulator's rows.
__device__ inline float QuadMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffff, value, 2));
}
__device__ inline float QuadSum(float value) {
  value += __shfl_xor_sync(0xffffffff, value, 1);
  return value + __shfl_xor_sync(0xffffffff, value, 2);
}

// The softmax of two rows of scores that arrive a tile at a time, for one thread's share of a
// wgmma accumulator (see wgmma.h for its layout).
//
// Probabilities are 2^(scale * score - reference). Any reference gives the same quotient as long as
// nothing overflows or all of a row vanishes. So it follows the largest score only where it must,
// and where norms show that it need not, the largest score is not even looked for.
class OnlineSoftmax {
 public:
  __device__ explicit OnlineSoftmax(float log2_scale) : scale_(log2_scale) {}

  __device__ void Start() {
    reference_[0] = reference_[1] = kLowest;
    normalizer_[0] = normalizer_[1] = 0.0f;
  }

  // Replaces a tile's scores by probabilities. `bounds`: no score of the row is larger. Returns
  // whether any row of the warp got another reference, so that what was accumulated must be
  // multiplied by decay().
  template <int kCount>
  __device__ bool Apply(float (&scores)[kCount], const float (&bounds)[2]) {
    bool moved = false;
    decay_[0] = decay_[1] = 1.0f;
    const bool may_overflow = bounds[0] * scale_ > reference_[0] + kMostLag ||
                              bounds[1] * scale_ > reference_[1] + kMostLag;
    if (__any_sync(0xffffffff, may_overflow)) moved = MoveReference(scores);
    float sums[2][2] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int row = i / 2 % 2;
      scores[i] = Exp2(fmaf(scores[i], scale_, -reference_[row]));
      sums[row][i % 2] += scores[i];
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      normalizer_[row] = fmaf(normalizer_[row], decay_[row], QuadSum(sums[row][0] + sums[row][1]));
    }
    return moved;
  }

  __device__ float decay(int row) const { return decay_[row]; }
  // Sum of the probabilities of all tiles so far.
  __device__ float normalizer(int row) const { return normalizer_[row]; }
  __device__ float log2_normalizer(int row) const {
    return reference_[row] + log2f(normalizer_[row]);
  }

 private:
  // 2^90 a key: sums of any number of keys stay finite.
  static constexpr float kMostLag = 90.0f;
  // Less than any score, and finite: a tile may hold nothing that a row sees.
  static constexpr float kLowest = -1e30f;

  // Makes each row's reference its largest score so far.
  template <int kCount>
  __device__ bool MoveReference(const float (&scores)[kCount]) {
    float largest[2] = {scores[0], scores[2]};
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      largest[0] = fmaxf(largest[0], fmaxf(scores[i], scores[i + 1]));
      largest[1] = fmaxf(largest[1], fmaxf(scores[i + 2], scores[i + 3]));
    }
    bool moved = false;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float candidate = QuadMax(largest[row]) * scale_;
      if (candidate > reference_[row]) {
        decay_[row] = Exp2(reference_[row] - candidate);
        reference_[row] = candidate;
        moved = true;
      }
    }
    return __any_sync(0xffffffff, moved);
  }

  float scale_;
  float reference_[2];
  float normalizer_[2];
  float decay_[2];
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_ONLINE_SOFTMAX_H_
