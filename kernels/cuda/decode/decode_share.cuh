#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_SHARE_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_SHARE_CUH_

#include <cstdint>

#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/decode/mma.cuh"

namespace weir {

constexpr int kDecodeHeads = 8;  // query heads of a block
// Less than any score, and finite.
constexpr float kNoScore = -1e30f;

// What attention to a share of the keys has come to, for up to 8 query heads, in the registers of a
// warp: the largest score, the sum of the exponentials, and the output so far. A lane has the heads
// 2 * (lane % 4) and the next, and of each 8 dimensions in 64, from 8 * (lane / 4) on.
template <int kHeadDim>
class DecodeShare {
  static constexpr int kChunks = kHeadDim / 64;

 public:
  // The same in the block's shared memory.
  struct Result {
    float2 softmaxes[kDecodeHeads];  // maximum, sum
    float outputs[kDecodeHeads][kHeadDim + 4];
  };

  __device__ DecodeShare() : line_(threadIdx.x % 32 / 4), column_(threadIdx.x % 4) {}

  __device__ void Begin() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      maxima_[i] = kNoScore;
      sums_[i] = 0.0f;
      ForEachOutput(i, [](int, float& output) { output = 0.0f; });
    }
  }

  // A tile's scores, base 2, as the product of keys and queries leaves them: scores[i] is that of
  // head 2 * (lane % 4) + i % 2 and key lane / 4 + (i < 2 ? 0 : 8). values[i] are this lane's
  // dimensions of key 2 * (lane % 4) + i % 2 + (i < 2 ? 0 : 8).
  __device__ void Add(float (&scores)[4], const uint4 (&values)[4][kChunks]) {
    float decays[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float largest = fmaxf(maxima_[i], LineMax(fmaxf(scores[i], scores[i + 2])));
      decays[i] = Exp2(maxima_[i] - largest);
      maxima_[i] = largest;
      scores[i] = Exp2(scores[i] - largest);
      scores[i + 2] = Exp2(scores[i + 2] - largest);
      sums_[i] = sums_[i] * decays[i] + scores[i] + scores[i + 2];
    }
    const uint32_t near = Transpose8x8(PackBFloat16(scores[0], scores[1]));
    const uint32_t far = Transpose8x8(PackBFloat16(scores[2], scores[3]));
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      AddValues<0>(chunk, values, decays, near, far);
      AddValues<1>(chunk, values, decays, near, far);
      AddValues<2>(chunk, values, decays, near, far);
      AddValues<3>(chunk, values, decays, near, far);
    }
  }

  // No more tiles; before Join and Store.
  __device__ void End() {
    sums_[0] = LineSum(sums_[0]);
    sums_[1] = LineSum(sums_[1]);
  }

  // Puts what the share before came to together with this one. Lanes read what they themselves have
  // stored, or the same lanes of another warp before a barrier.
  __device__ void Join(const Result& before) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = 2 * column_ + i;
      const float2 softmax = line_ == 0 ? before.softmaxes[head] : float2{};
      const float maximum = __shfl_sync(0xffffffff, softmax.x, column_);
      const float sum = __shfl_sync(0xffffffff, softmax.y, column_);
      const float largest = fmaxf(maximum, maxima_[i]);
      const float earlier = Exp2(maximum - largest);
      const float later = Exp2(maxima_[i] - largest);
      maxima_[i] = largest;
      sums_[i] = earlier * sum + later * sums_[i];
      ForEachOutput(i, [&](int dim, float& output) {
        output = earlier * before.outputs[head][dim] + later * output;
      });
    }
  }

  __device__ void Store(Result& result) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = 2 * column_ + i;
      if (line_ == 0) result.softmaxes[head] = {maxima_[i], sums_[i]};
      ForEachOutput(i, [&](int dim, float& output) { result.outputs[head][dim] = output; });
    }
  }

 private:
  // Of head 2 * column_ + i, what this lane has: f(dimension, output).
  template <typename F>
  __device__ void ForEachOutput(int i, F f) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          f(64 * chunk + 8 * line_ + 2 * pair + j, outputs_[chunk][pair][2 * j + i]);
        }
      }
    }
  }

  // Over the lanes of a column: all keys of a tile, for the column's two heads.
  __device__ static float LineMax(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 4));
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 8));
    return fmaxf(value, __shfl_xor_sync(0xffffffff, value, 16));
  }
  __device__ static float LineSum(float value) {
    value += __shfl_xor_sync(0xffffffff, value, 4);
    value += __shfl_xor_sync(0xffffffff, value, 8);
    return value + __shfl_xor_sync(0xffffffff, value, 16);
  }

  template <int kPair>
  __device__ static uint32_t PairOf(const uint4& values) {
    if constexpr (kPair == 0) return values.x;
    if constexpr (kPair == 1) return values.y;
    if constexpr (kPair == 2) return values.z;
    return values.w;
  }
  // Dimensions 64 * chunk + 8 * line + 2 * kPair and the next.
  template <int kPair>
  __device__ void AddValues(int chunk, const uint4 (&values)[4][kChunks], const float (&decays)[2],
                            uint32_t near, uint32_t far) {
    float(&output)[4] = outputs_[chunk][kPair];
#pragma unroll
    for (int i = 0; i < 4; ++i) output[i] *= decays[i % 2];
    const uint32_t a = PairOf<kPair>(values[0][chunk]);
    const uint32_t b = PairOf<kPair>(values[1][chunk]);
    const uint32_t c = PairOf<kPair>(values[2][chunk]);
    const uint32_t d = PairOf<kPair>(values[3][chunk]);
    MultiplyAdd16x8x16(output, LowHalves(a, b), HighHalves(a, b), LowHalves(c, d), HighHalves(c, d),
                       near, far);
  }

  const int line_, column_;
  float outputs_[kChunks][4][4];  // [][pair of dimensions][2 * dimension of the pair + head]
  float maxima_[2];
  float sums_[2];  // of this lane's keys; of all when the share has ended
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_SHARE_CUH_
