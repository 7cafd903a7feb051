#include <cassert>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/rms_norm.cuh"
#include "kernels/cuda/peers/one_shot_add_norm.h"
#include "kernels/cuda/peers/one_shot_call.cuh"
#include "kernels/cuda/peers/tensor_group.cuh"

namespace weir {
namespace {

using Group = GroupSum<__nv_bfloat16>;
constexpr int kVectorGroups = kVector / kGroup<__nv_bfloat16>;
static_assert(kVectorGroups == 2);

// One block: one row.
__global__ void __launch_bounds__(kNormThreads)
    OneShotAddNormKernel(const __grid_constant__ OneShotRanks ranks,
                         const __grid_constant__ OneShotAddNorm work) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * work.width;
  const auto load_own = [&](int i, uint2(&own)[kVectorGroups]) {
    const uint4 bits = *reinterpret_cast<const uint4*>(work.delta + offset + i);
    own[0] = {bits.x, bits.y};
    own[1] = {bits.z, bits.w};
  };
  // The first halves of all vectors, then the second ones: what neighbouring threads send lies side
  // by side, so that a warp's packets fill the lines that cross the link.
  const int64_t vectors = static_cast<int64_t>(gridDim.x) * work.width / kVector;
  const auto place_of = [&](int i, int half) { return (offset + i) / kVector + half * vectors; };
  // A thread's first vector, for usual widths its only one, is loaded while the call is counted.
  const int first = static_cast<int>(threadIdx.x) * kVector;
  uint2 first_own[kVectorGroups] = {};
  if (first < work.width) load_own(first, first_own);
  const OneShotCall call(ranks);
  if (call.gave_up_before()) return;
  for (int i = first; i < work.width; i += kNormThreads * kVector) {
    uint2 own[kVectorGroups] = {first_own[0], first_own[1]};
    if (i != first) load_own(i, own);
    for (int j = 0; j < kVectorGroups; ++j) call.Send(place_of(i, j), own[j]);
  }

  const auto sum = [&](int i) {
    uint2 own[kVectorGroups] = {first_own[0], first_own[1]};
    if (i != first) load_own(i, own);
    Group sums[kVectorGroups];
    const int64_t places[kVectorGroups] = {place_of(i, 0), place_of(i, 1)};
    call.Receive(places, own, [&](int rank, const uint2* bits) {
#pragma unroll
      for (int j = 0; j < kVectorGroups; ++j) {
        if (rank == 0) {
          sums[j].Begin(bits[j]);
        } else {
          sums[j].Add(bits[j]);
        }
      }
    });
    const uint2 low = sums[0].Rounded();
    const uint2 high = sums[1].Rounded();
    return BFloat16Vector{make_uint4(low.x, low.y, high.x, high.y)};
  };
  const auto store = [&](const BFloat16Vector& vector, int i) {
    vector.Store(work.normed + offset + i);
  };
  RmsNormRow</*kAdd=*/true>(work.residual + offset, sum, work.weight, work.epsilon, work.width,
                            store);
}

}  // namespace

cudaError_t LaunchOneShotAddNorm(const OneShotRanks& ranks, const OneShotAddNorm& work,
                                 cudaStream_t stream) {
  assert(ranks.ranks >= 1 && ranks.ranks <= kOneShotMostRanks);
  assert(ranks.rank >= 0 && ranks.rank < ranks.ranks);
  assert(work.rows > 0 && work.Fits());
  return LaunchDependent(OneShotAddNormKernel, work.rows, kNormThreads, 0, stream, ranks, work);
}

}  // namespace weir
