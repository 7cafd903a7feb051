#include <algorithm>
#include <cassert>

#include "tests/kernels/cuda/plain_copy.h"

namespace weir {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 64;

__global__ void CopyKernel(uint2* to, const uint2* from, int64_t count) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    to[i] = from[i];
  }
}

}  // namespace

cudaError_t LaunchPlainCopy(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  assert(bytes % static_cast<int64_t>(sizeof(uint2)) == 0);
  const int64_t count = bytes / static_cast<int64_t>(sizeof(uint2));
  if (count == 0) return cudaSuccess;
  const int64_t blocks = std::min((count + kThreads - 1) / kThreads, kMostBlocks);
  CopyKernel<<<static_cast<int>(blocks), kThreads, 0, stream>>>(
      static_cast<uint2*>(to), static_cast<const uint2*>(from), count);
  return cudaGetLastError();
}

}  // namespace weir
