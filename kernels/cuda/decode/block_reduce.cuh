#ifndef WEIR_KERNELS_CUDA_DECODE_BLOCK_REDUCE_CUH_
#define WEIR_KERNELS_CUDA_DECODE_BLOCK_REDUCE_CUH_

namespace weir {

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Largest {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// `operation` over x of the threads of a block of kThreads, in an order that is always the same;
// every thread gets the result. `shared` has a value for each warp and may be used again at once.
template <int kThreads, typename T, typename Operation>
__device__ T BlockReduce(T x, Operation operation, T* shared) {
  constexpr int kWarps = kThreads / 32;
  static_assert(kThreads % 32 == 0 && kWarps <= 32 && (kWarps & (kWarps - 1)) == 0);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x = operation(x, __shfl_xor_sync(0xffffffff, x, distance));
  }
  if (lane == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared[lane % kWarps];
#pragma unroll
  for (int distance = kWarps / 2; distance > 0; distance /= 2) {
    x = operation(x, __shfl_xor_sync(0xffffffff, x, distance));
  }
  __syncthreads();
  return x;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_BLOCK_REDUCE_CUH_
