#ifndef WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SELECTION_CUH_
#define WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SELECTION_CUH_

// Finds a row's likeliest tokens, exactly, mostly in one pass over a part of its logits.
//
// A bound is a rank that at least as many tokens have or exceed as are wanted. Every token above a
// bound is collected in shared memory; if all have room, the best of them, sorted, are the result.
// The first bound comes from the groups of the slices: the n-th largest of the groups' best logits
// has n tokens at or above it, one in each group, and hardly more than n if likely tokens are
// strewn about. Groups whose best is below the bound are not read. If there is no room for all,
// those that found room have a better bound among them: their own n-th best. It leaves out all the
// worse ones that found room, so this ends, and as those are a sample of all, it ends soon.

#include <cstdint>

#include "kernels/cuda/decode/likeliest_slices.cuh"
#include "kernels/cuda/decode/ranked_token.cuh"

namespace weir {

template <int kThreads>
class LikeliestSelection {
 public:
  static constexpr int kRoom = 4096;  // tokens that can be collected
  static_assert(kRoom >= 2 * kMostLikeliest && kRoom >= LogitSlices::kMostGroups);

  // In shared memory. best[0 .. result) is the result.
  struct Shared {
    RankedToken best[kRoom];
    uint32_t group_keys[LogitSlices::kMostGroups];
    int collected;
  };

  // Puts the `wanted` likeliest tokens of a row into shared.best, best first; returns how many
  // there are. `group_keys` are the row's. All threads of the block call it and see the result.
  __device__ static int Run(const DeviceLogits& logits, const LogitSlices& cut, bool aligned,
                            int row, const uint32_t* group_keys, int wanted, Shared& shared) {
    for (int group = threadIdx.x; group < cut.groups; group += kThreads) {
      const uint32_t key = group_keys[group];
      shared.group_keys[group] = key;
      shared.best[group] = LowestWithKey(key);
    }
    RankedToken bound = 1;  // all tokens
    if (cut.groups >= wanted) {
      Sort(shared, cut.groups);
      bound = Largest()(bound, shared.best[wanted - 1]);
    }
    while (true) {
      __syncthreads();  // the bound was read
      if (threadIdx.x == 0) shared.collected = 0;
      __syncthreads();
      Collect(logits, cut, aligned, row, bound, shared);
      __syncthreads();
      const int collected = shared.collected;
      Sort(shared, min(collected, kRoom));
      if (collected <= kRoom) return min(collected, wanted);
      bound = shared.best[wanted - 1];
    }
  }

 private:
  // Sorts the first `count` of shared.best, which all threads may just have written.
  __device__ static void Sort(Shared& shared, int count) {
    int padded = 1;
    while (padded < count) padded *= 2;
    for (int i = count + threadIdx.x; i < padded; i += kThreads) shared.best[i] = 0;
    __syncthreads();
    SortBestFirst<kThreads>(shared.best, padded);
  }

  // Counts the tokens from `bound` on and puts them into shared.best, as far as there is room.
  __device__ static void Collect(const DeviceLogits& logits, const LogitSlices& cut, bool aligned,
                                 int row, RankedToken bound, Shared& shared) {
    constexpr int kWarps = kThreads / 32;
    constexpr int kBatch = 4;          // reads under way at a time
    constexpr unsigned kStep = 40503;  // odd, about 0.618 * 2^16
    const int lane = threadIdx.x % 32;
    // A warp reads 32 neighbouring quads at a time. The order strews them over the row, so that
    // what finds room is a sample of it.
    const int spans = cut.slices * (LogitSlices::kSliceQuads / 32);
    int numbers = kWarps * kBatch;
    while (numbers < spans) numbers *= 2;
    for (int number = threadIdx.x / 32; number < numbers; number += kWarps * kBatch) {
      float values[kBatch][4];
      int quads[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int span = static_cast<int>((number + i * kWarps) * kStep & (numbers - 1));
        quads[i] = span * 32 + lane;
        // As no token's key is 0, nothing is read past the last group.
        const uint32_t key = span < spans ? shared.group_keys[quads[i] >> cut.group_shift] : 0;
        if (key >= KeyOf(bound) && key > 0) {
          ReadQuad(logits, cut, aligned, row, quads[i], values[i]);
        } else {
          for (float& value : values[i]) value = __uint_as_float(0x7fc00000);  // no token
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int32_t first_token = TokenOfQuad(logits, cut, quads[i]);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          Append(Rank(values[i][j], first_token + j), bound, shared);
        }
      }
    }
  }

  // Appends the tokens of a warp that rank from `bound` on.
  __device__ static void Append(RankedToken ranked, RankedToken bound, Shared& shared) {
    const unsigned appended = __ballot_sync(0xffffffff, ranked >= bound);
    if (appended == 0) return;
    const int lane = threadIdx.x % 32;
    int place = 0;
    if (lane == 0) place = atomicAdd(&shared.collected, __popc(appended));
    place = __shfl_sync(0xffffffff, place, 0) + __popc(appended & ((1u << lane) - 1));
    if (ranked >= bound && place < kRoom) shared.best[place] = ranked;
  }
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SELECTION_CUH_
