#include <algorithm>
#include <cassert>

#include "kernels/cuda/common/bfloat16_vector.cuh"
#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/rms_norm.cuh"
#include "kernels/cuda/common/swiglu.cuh"
#include "kernels/cuda/elementwise.h"

namespace weir {
namespace {

__device__ void StoreAs(const BFloat16Vector& vector, float* to) {
  float values[kVector];
  vector.Unpack(values);
  StoreFloats(values, to);
}
__device__ void StoreAs(const BFloat16Vector& vector, __nv_bfloat16* to) { vector.Store(to); }

// One block: one row.
template <typename T>
__global__ void EmbedKernel(const __nv_bfloat16* table, const int32_t* tokens, int width, T* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t row = blockIdx.x;
  const __nv_bfloat16* from = table + static_cast<int64_t>(tokens[row]) * width;
  for (int i = threadIdx.x * kVector; i < width; i += blockDim.x * kVector) {
    StoreAs(BFloat16Vector::Load(from + i), out + row * width + i);
  }
}

// One block: one row.
template <bool kAdd>
__global__ void __launch_bounds__(kNormThreads)
    RmsNormKernel(float* x, const __nv_bfloat16* delta, const float* weight, float epsilon,
                  int width, __nv_bfloat16* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * width;
  const auto load_delta = [&](int i) { return BFloat16Vector::Load(delta + offset + i); };
  const auto store = [&](const BFloat16Vector& vector, int i) { vector.Store(out + offset + i); };
  RmsNormRow<kAdd>(x + offset, load_delta, weight, epsilon, width, store);
}

constexpr int kSwiGluThreads = 256;

constexpr int kSwiGluColumns = kSwiGluThreads * kVector;  // of a block

__host__ __device__ int SwiGluBlocks(int width) {  // of a row
  return (width + kSwiGluColumns - 1) / kSwiGluColumns;
}

// One thread: 8 columns of one row. Grid: columns, then rows.
__global__ void __launch_bounds__(kSwiGluThreads)
    SwiGluKernel(const __nv_bfloat16* gate_up, int width, __nv_bfloat16* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int blocks = SwiGluBlocks(width);
  const int i = (blockIdx.x % blocks * kSwiGluThreads + threadIdx.x) * kVector;
  if (i >= width) return;
  const int64_t row = blockIdx.x / blocks;
  float gate[kVector];
  float up[kVector];
  BFloat16Vector::Load(gate_up + row * 2 * width + i).Unpack(gate);
  BFloat16Vector::Load(gate_up + (row * 2 + 1) * width + i).Unpack(up);
#pragma unroll
  for (int j = 0; j < kVector; ++j) gate[j] = SwiGlu(gate[j], up[j]);
  BFloat16Vector::Round(gate).Store(out + row * width + i);
}

// One block: one row.
__global__ void CopyRowsKernel(const __nv_bfloat16* from, const int* from_rows, int width,
                               __nv_bfloat16* to, const int* to_rows) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int row = blockIdx.x;
  const int64_t source = from_rows == nullptr ? row : from_rows[row];
  const int64_t target = to_rows == nullptr ? row : to_rows[row];
  if (source < 0 || target < 0) return;
  for (int i = threadIdx.x * kVector; i < width; i += blockDim.x * kVector) {
    BFloat16Vector::Load(from + source * width + i).Store(to + target * width + i);
  }
}

// Threads that copy a row.
int CopyThreads(int width) { return std::min(1024, (width / kVector + 31) / 32 * 32); }

}  // namespace

cudaError_t CheckElementwiseCode() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, SwiGluKernel);
}

template <typename T>
cudaError_t LaunchEmbed(const __nv_bfloat16* table, const int32_t* tokens, int rows, int width,
                        T* out, cudaStream_t stream) {
  assert(width % kVector == 0);
  return LaunchDependent(EmbedKernel<T>, rows, CopyThreads(width), 0, stream, table, tokens, width,
                         out);
}
template cudaError_t LaunchEmbed(const __nv_bfloat16*, const int32_t*, int, int, float*,
                                 cudaStream_t);
template cudaError_t LaunchEmbed(const __nv_bfloat16*, const int32_t*, int, int, __nv_bfloat16*,
                                 cudaStream_t);

cudaError_t LaunchRmsNorm(float* x, const __nv_bfloat16* delta, const float* weight, float epsilon,
                          int rows, int width, __nv_bfloat16* out, cudaStream_t stream) {
  assert(width % kVector == 0);
  const auto kernel = delta == nullptr ? RmsNormKernel<false> : RmsNormKernel<true>;
  return LaunchDependent(kernel, rows, kNormThreads, 0, stream, x, delta, weight, epsilon, width,
                         out);
}

cudaError_t LaunchSwiGlu(const __nv_bfloat16* gate_up, int rows, int width, __nv_bfloat16* out,
                         cudaStream_t stream) {
  assert(width % kVector == 0);
  return LaunchDependent(SwiGluKernel, rows * SwiGluBlocks(width), kSwiGluThreads, 0, stream,
                         gate_up, width, out);
}

cudaError_t LaunchCopyRows(const __nv_bfloat16* from, const int* from_rows, int count, int width,
                           __nv_bfloat16* to, const int* to_rows, cudaStream_t stream) {
  assert(width % kVector == 0);
  return LaunchDependent(CopyRowsKernel, count, CopyThreads(width), 0, stream, from, from_rows,
                         width, to, to_rows);
}

}  // namespace weir
