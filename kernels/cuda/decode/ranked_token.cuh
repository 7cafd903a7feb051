#ifndef WEIR_KERNELS_CUDA_DECODE_RANKED_TOKEN_CUH_
#define WEIR_KERNELS_CUDA_DECODE_RANKED_TOKEN_CUH_

#include <cstdint>

namespace weir {

// A token with a value as one integer: of two the larger is the one with the larger value, of equal
// values the one with the lower token. So the best of a set is its maximum, and no two are equal.
// 0 stands for no token.
using RankedToken = unsigned long long;

// A value that is not a number ranks as no token.
__device__ inline RankedToken Rank(float value, int32_t token) {
  if (isnan(value)) return 0;
  uint32_t bits = __float_as_uint(value);
  if (bits == 0x80000000) bits = 0;  // -0 equals 0
  // Larger floats have larger bits, but for the sign: below 0 it is the other way round.
  const uint32_t key = (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
  return RankedToken{key} << 32 | static_cast<uint32_t>(~token);
}

__device__ inline uint32_t KeyOf(RankedToken ranked) { return static_cast<uint32_t>(ranked >> 32); }
// What ranks below every token with this key and above all with a smaller one.
__device__ inline RankedToken LowestWithKey(uint32_t key) { return RankedToken{key} << 32; }

__device__ inline int32_t TokenOf(RankedToken ranked) {
  return static_cast<int32_t>(~static_cast<uint32_t>(ranked));
}
// -infinity of no token.
__device__ inline float ValueOf(RankedToken ranked) {
  if (ranked == 0) return __uint_as_float(0xff800000);
  const uint32_t key = KeyOf(ranked);
  return __uint_as_float((key & 0x80000000) != 0 ? key & 0x7fffffff : ~key);
}

// Sorts `values` in shared memory, a power of two of them, best first. All of a block of kThreads
// call it; what they wrote there must be visible, and the result is.
template <int kThreads>
__device__ void SortBestFirst(RankedToken* values, int count) {
  // A bitonic network. Pairs at most 32 apart lie, for all threads of a warp, within the 64 values
  // that the warp's own pairs cover, so between such rounds the warp alone waits for itself.
  for (int run = 2; run <= count; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int pair = threadIdx.x; pair < count / 2; pair += kThreads) {
        const int low = 2 * pair - (pair & (distance - 1));
        const int high = low + distance;
        const RankedToken a = values[low];
        const RankedToken b = values[high];
        const bool best_first = (low & run) == 0;
        if ((a < b) == best_first) {
          values[low] = b;
          values[high] = a;
        }
      }
      const int next_distance = distance > 1 ? distance / 2 : run;
      if (distance > 32 || next_distance > 32) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  __syncthreads();
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_RANKED_TOKEN_CUH_
