#include <algorithm>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/peers/rank_order_sum.h"
#include "kernels/cuda/peers/tensor_group.cuh"

namespace weir {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1024;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    RankOrderSumKernel(const T* parts, int ranks, int64_t elements, T* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t threads = int64_t{gridDim.x} * kThreads;
  for (int64_t group = int64_t{blockIdx.x} * kThreads + threadIdx.x; group < GroupsIn<T>(elements);
       group += threads) {
    GroupSum<T> sum;
    sum.Begin(LoadGroup(parts, group, elements));
    for (int rank = 1; rank < ranks; ++rank) {
      sum.Add(LoadGroup(parts + rank * elements, group, elements));
    }
    StoreGroup(sum.Rounded(), out, group, elements);
  }
}

template <typename T>
cudaError_t Launch(const void* parts, int ranks, int64_t elements, void* out, cudaStream_t stream) {
  const int64_t blocks = (GroupsIn<T>(elements) + kThreads - 1) / kThreads;
  return LaunchDependent(RankOrderSumKernel<T>, static_cast<int>(std::min(blocks, kMostBlocks)),
                         kThreads, 0, stream, static_cast<const T*>(parts), ranks, elements,
                         static_cast<T*>(out));
}

}  // namespace

cudaError_t LaunchRankOrderSum(const void* parts, int ranks, ElementType type, int64_t elements,
                               void* out, cudaStream_t stream) {
  if (elements == 0) return cudaSuccess;
  return type == ElementType::kBFloat16 ? Launch<__nv_bfloat16>(parts, ranks, elements, out, stream)
                                        : Launch<float>(parts, ranks, elements, out, stream);
}

}  // namespace weir
