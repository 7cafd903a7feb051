#ifndef WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_H_
#define WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_H_

#include <cstdint>

#include "kernels/cuda/common/ptx.h"

namespace weir {

// Sums over the rows of an accumulator's tile.
//
// A thread's share of 16 rows x 128 columns of probabilities, packed for the next product (see
// wgmma.h), is 2 rows x 32 columns; 8 lanes hold the other rows. Summing all 32 columns by
// butterfly would take 96 shuffles. Instead each of the three steps hands half of the columns over
// and keeps the other half: 8 + 4 + 2 shuffles of column pairs. Bfloat16 is enough here: a sum of
// 16 rows is off by 2^-9 or so at random, and many of them are added to make a score.
struct ColumnQuad {
  uint32_t pairs[2];
};

// First of the two columns of pair `pair` that this lane is left with.
__device__ inline int ColumnOfPair(int lane, int pair) {
  const int block = (lane >> 4 & 1) * 8 + (lane >> 3 & 1) * 4 + (lane >> 2 & 1) * 2 + pair;
  return block * 8 + lane % 4 * 2;
}

// sums[0, kHalf) += the other half of `sums` of the lane 2 * kHalf away, which keeps that half.
template <int kHalf, int kCount>
__device__ inline void HandOverHalf(uint32_t (&sums)[kCount], int lane) {
  constexpr int kDistance = kHalf * 2;
  const bool upper = lane & kDistance;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const uint32_t kept = upper ? sums[kHalf + i] : sums[i];
    const uint32_t given = upper ? sums[i] : sums[kHalf + i];
    sums[i] = AddPairs(kept, __shfl_xor_sync(0xffffffff, given, kDistance));
  }
}

// In two parts, as shuffles take time and each part can run under a product of its own. The first
// weighs the probabilities of the thread's rows with `weight_0` and `weight_1` and halves once.
struct ColumnSumParts {
  uint32_t pairs[8];
};

__device__ inline ColumnSumParts BeginColumnSums(const uint32_t (&packed)[32], float weight_0,
                                                 float weight_1, int lane) {
  const uint32_t weights_0 = PackBFloat16(weight_0, weight_0);
  const uint32_t weights_1 = PackBFloat16(weight_1, weight_1);
  uint32_t sums[16];
#pragma unroll
  for (int block = 0; block < 16; ++block) {
    sums[block] = MultiplyAddPairs(packed[block * 2 + 1], weights_1,
                                   MultiplyPairs(packed[block * 2], weights_0));
  }
  HandOverHalf<8>(sums, lane);
  ColumnSumParts parts;
#pragma unroll
  for (int i = 0; i < 8; ++i) parts.pairs[i] = sums[i];
  return parts;
}

// The sums over the warp's 16 rows.
__device__ inline ColumnQuad FinishColumnSums(ColumnSumParts& parts, int lane) {
  HandOverHalf<4>(parts.pairs, lane);
  HandOverHalf<2>(parts.pairs, lane);
  return {parts.pairs[0], parts.pairs[1]};
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_COLUMN_SUMS_H_
