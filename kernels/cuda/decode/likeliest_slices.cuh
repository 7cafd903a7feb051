#ifndef WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SLICES_CUH_
#define WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SLICES_CUH_

// The first of the two kernels that summarise logits: each block reduces a slice of a row.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/decode/block_reduce.cuh"
#include "kernels/cuda/decode/likeliest.h"
#include "kernels/cuda/decode/ranked_token.cuh"
#include "kernels/gumbel.h"

namespace weir {

// How a row is cut. Tokens are handled by fours that begin at a multiple of 4, because one block of
// random words serves four; so column 0 may be within the first quad.
struct LogitSlices {
  static constexpr int kSliceQuads = 256;  // a quad for each thread
  static constexpr int kWantedGroups = 2048;
  static constexpr int kMostGroups = kWantedGroups + kSliceQuads / 32;

  // Columns of the first quad that are before column 0.
  int offset;
  int slices;
  // Neighbouring quads make groups, of which the largest logit is told: 2^group_shift quads, at
  // most a warp's.
  int group_shift;
  int groups;

  explicit LogitSlices(int64_t width, int32_t first_token) : offset(first_token % 4) {
    const int64_t quads = (width + offset + 3) / 4;
    slices = static_cast<int>((quads + kSliceQuads - 1) / kSliceQuads);
    group_shift = 0;
    while (group_shift < 5 && slices * kSliceQuads >> group_shift > kWantedGroups) ++group_shift;
    groups = slices * kSliceQuads >> group_shift;
  }
};
static_assert((kMostLogitColumns + 3 + 3) / 4 <= int64_t{LogitSlices::kMostGroups} * 32);

// What a slice of a row says of it.
struct SliceSummary {
  RankedToken best;   // by logit
  RankedToken drawn;  // by perturbed logit
  float sum;          // of exp(logit - largest)
  float tempered_sum;
};

struct SlicesWorkspace {
  SliceSummary* summaries;  // [rows][slices]
  uint32_t* group_keys;     // [rows][groups] KeyOf each group's best; where more than one is asked
};

// Whether a row's quads can be read as float4.
inline bool QuadsAligned(const DeviceLogits& logits, const LogitSlices& cut) {
  return cut.offset == 0 && logits.width % 4 == 0 &&
         reinterpret_cast<uintptr_t>(logits.values) % 16 == 0;
}

// The logits of a quad; NaN where there is no token.
__device__ inline void ReadQuad(const DeviceLogits& logits, const LogitSlices& cut, bool aligned,
                                int row, int quad, float (&values)[4]) {
  const float* from = logits.values + row * logits.width;
  const int column = 4 * quad - cut.offset;
  if (aligned && column + 4 <= logits.tokens) {
    const float4 four = *reinterpret_cast<const float4*>(from + column);
    values[0] = four.x;
    values[1] = four.y;
    values[2] = four.z;
    values[3] = four.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool present = column + i >= 0 && column + i < logits.tokens;
    values[i] = present ? from[column + i] : __uint_as_float(0x7fc00000);
  }
}

// The token of value 0 of a quad.
__device__ inline int32_t TokenOfQuad(const DeviceLogits& logits, const LogitSlices& cut,
                                      int quad) {
  return logits.first_token - cut.offset + 4 * quad;
}

// A block of (slice, row).
__global__ void __launch_bounds__(LogitSlices::kSliceQuads)
    SummarizeSlicesKernel(const DeviceLogits logits, const LogitSlices cut, bool aligned,
                          const LikeliestRequest* requests, const SlicesWorkspace workspace) {
  constexpr int kThreads = LogitSlices::kSliceQuads;
  __shared__ RankedToken shared_ranked[kThreads / 32];
  __shared__ float shared_sums[kThreads / 32];
  AllowLaterKernels();
  WaitForEarlierKernels();

  const int row = blockIdx.y;
  const int quad = blockIdx.x * kThreads + threadIdx.x;
  const int32_t first_token = TokenOfQuad(logits, cut, quad);
  const LikeliestRequest request = requests[row];
  float values[4];
  ReadQuad(logits, cut, aligned, row, quad, values);

  RankedToken best = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) best = Largest()(best, Rank(values[i], first_token + i));
  if (request.likeliest > 1) {
    RankedToken group = best;
    const int group_quads = 1 << cut.group_shift;
    for (int distance = 1; distance < group_quads; distance *= 2) {
      group = Largest()(group, __shfl_xor_sync(0xffffffff, group, distance));
    }
    if (threadIdx.x % group_quads == 0) {
      workspace.group_keys[static_cast<int64_t>(row) * cut.groups + (quad >> cut.group_shift)] =
          KeyOf(group);
    }
  }
  best = BlockReduce<kThreads>(best, Largest(), shared_ranked);

  SliceSummary summary = {best, 0, 0.0f, 0.0f};
  const float largest = ValueOf(best);
  if (largest > -INFINITY) {
    float sum = 0.0f;
    float tempered_sum = 0.0f;
    RankedToken drawn = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (isnan(values[i])) continue;
      sum += expf(values[i] - largest);
      tempered_sum += expf((values[i] - largest) * request.inverse_temperature);
    }
    if (request.draw) {
      const std::array<uint32_t, 4> words =
          GumbelWords(request.seed, request.index, static_cast<uint32_t>(first_token) / 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float value =
            PerturbedLogit(values[i], request.inverse_temperature, GumbelUniform(words[i]));
        if (value > -INFINITY) drawn = Largest()(drawn, Rank(value, first_token + i));
      }
      summary.drawn = BlockReduce<kThreads>(drawn, Largest(), shared_ranked);
    }
    summary.sum = BlockReduce<kThreads>(sum, Sum(), shared_sums);
    summary.tempered_sum = summary.sum;
    if (request.inverse_temperature != 1.0f) {
      summary.tempered_sum = BlockReduce<kThreads>(tempered_sum, Sum(), shared_sums);
    }
  }
  if (threadIdx.x == 0) {
    workspace.summaries[static_cast<int64_t>(row) * cut.slices + blockIdx.x] = summary;
  }
}

// What a row's slices make together; every thread of a block of kThreads gets it.
template <int kThreads>
__device__ SliceSummary MergeSlices(const SliceSummary* summaries, int slices,
                                    float inverse_temperature) {
  __shared__ RankedToken shared_ranked[kThreads / 32];
  __shared__ float shared_sums[kThreads / 32];
  RankedToken best = 0;
  RankedToken drawn = 0;
  for (int slice = threadIdx.x; slice < slices; slice += kThreads) {
    best = Largest()(best, summaries[slice].best);
    drawn = Largest()(drawn, summaries[slice].drawn);
  }
  best = BlockReduce<kThreads>(best, Largest(), shared_ranked);
  drawn = BlockReduce<kThreads>(drawn, Largest(), shared_ranked);
  const float largest = ValueOf(best);
  float sum = 0.0f;
  float tempered_sum = 0.0f;
  for (int slice = threadIdx.x; slice < slices; slice += kThreads) {
    const SliceSummary summary = summaries[slice];
    if (!(summary.sum > 0.0f)) continue;
    const float below = ValueOf(summary.best) - largest;
    sum += summary.sum * expf(below);
    tempered_sum += summary.tempered_sum * expf(below * inverse_temperature);
  }
  sum = BlockReduce<kThreads>(sum, Sum(), shared_sums);
  tempered_sum = BlockReduce<kThreads>(tempered_sum, Sum(), shared_sums);
  return {best, drawn, sum, tempered_sum};
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_LIKELIEST_SLICES_CUH_
