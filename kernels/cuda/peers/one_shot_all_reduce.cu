#include <algorithm>
#include <cassert>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/peers/one_shot_all_reduce.h"
#include "kernels/cuda/peers/one_shot_call.cuh"
#include "kernels/cuda/peers/tensor_group.cuh"

namespace weir {
namespace {

// Small blocks: already a row is spread over several multiprocessors, each with links of its own.
constexpr int kThreads = 256;

// Sends the groups of `x` that are this thread's, then calls receive(call, group, own) for each.
// Sending waits for nobody, so no rank and no block waits for one that waits for it.
template <typename T, typename Receive>
__device__ void Exchange(const OneShotRanks& ranks, const T* x, int64_t elements, Receive receive) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t groups = GroupsIn<T>(elements);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t threads = int64_t{gridDim.x} * kThreads;
  // A thread's first group, for few rows its only one, is loaded while the call is being counted.
  uint2 first_bits = {};
  if (first < groups) first_bits = LoadGroup(x, first, elements);
  const auto own = [&](int64_t group) {
    return group == first ? first_bits : LoadGroup(x, group, elements);
  };
  const OneShotCall call(ranks);
  if (call.gave_up_before()) return;
  for (int64_t group = first; group < groups; group += threads) call.Send(group, own(group));
  for (int64_t group = first; group < groups; group += threads) receive(call, group, own(group));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    SumKernel(const __grid_constant__ OneShotRanks ranks, T* x, int64_t elements) {
  Exchange<T>(ranks, x, elements, [&](const OneShotCall& call, int64_t group, uint2 own) {
    GroupSum<T> sum;
    call.Receive<1>({group}, {own}, [&](int rank, const uint2* bits) {
      if (rank == 0) {
        sum.Begin(*bits);
      } else {
        sum.Add(*bits);
      }
    });
    StoreGroup(sum.Rounded(), x, group, elements);
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const __grid_constant__ OneShotRanks ranks, const T* x, int64_t elements, T* out) {
  Exchange<T>(ranks, x, elements, [&](const OneShotCall& call, int64_t group, uint2 own) {
    call.Receive<1>({group}, {own}, [&](int rank, const uint2* bits) {
      StoreGroup(*bits, out + rank * elements, group, elements);
    });
  });
}

template <typename T>
int Blocks(int64_t elements) {
  const int64_t blocks = (GroupsIn<T>(elements) + kThreads - 1) / kThreads;
  return static_cast<int>(std::min<int64_t>(blocks, kOneShotMostBlocks));
}

template <typename T>
cudaError_t LaunchSum(const OneShotRanks& ranks, void* x, int64_t elements, cudaStream_t stream) {
  return LaunchDependent(SumKernel<T>, Blocks<T>(elements), kThreads, 0, stream, ranks,
                         static_cast<T*>(x), elements);
}

template <typename T>
cudaError_t LaunchGather(const OneShotRanks& ranks, const void* x, int64_t elements, void* out,
                         cudaStream_t stream) {
  return LaunchDependent(GatherKernel<T>, Blocks<T>(elements), kThreads, 0, stream, ranks,
                         static_cast<const T*>(x), elements, static_cast<T*>(out));
}

void CheckShape(const OneShotRanks& ranks, ElementType type, int64_t elements) {
  assert(ranks.ranks >= 1 && ranks.ranks <= kOneShotMostRanks);
  assert(ranks.rank >= 0 && ranks.rank < ranks.ranks);
  assert(elements * ElementBytes(type) <= kOneShotMostBytes);
}

}  // namespace

cudaError_t LaunchOneShotSum(const OneShotRanks& ranks, void* x, ElementType type, int64_t elements,
                             cudaStream_t stream) {
  CheckShape(ranks, type, elements);
  if (elements == 0) return cudaSuccess;
  return type == ElementType::kBFloat16 ? LaunchSum<__nv_bfloat16>(ranks, x, elements, stream)
                                        : LaunchSum<float>(ranks, x, elements, stream);
}

cudaError_t LaunchOneShotGather(const OneShotRanks& ranks, const void* x, ElementType type,
                                int64_t elements, void* out, cudaStream_t stream) {
  CheckShape(ranks, type, elements);
  if (elements == 0) return cudaSuccess;
  return type == ElementType::kBFloat16
             ? LaunchGather<__nv_bfloat16>(ranks, x, elements, out, stream)
             : LaunchGather<float>(ranks, x, elements, out, stream);
}

}  // namespace weir
