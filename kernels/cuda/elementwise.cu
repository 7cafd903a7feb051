#include <algorithm>
#include <cassert>

#include "kernels/cuda/dependent_launch.cuh"
#include "kernels/cuda/elementwise.h"

namespace weir {
namespace {

constexpr int kVector = 8;  // bfloat16 in 16 bytes

struct Vector {
  uint4 bits;

  __device__ static Vector Load(const __nv_bfloat16* from) {
    return {*reinterpret_cast<const uint4*>(from)};
  }
  __device__ void Store(__nv_bfloat16* to) const { *reinterpret_cast<uint4*>(to) = bits; }

  __device__ void Unpack(float (&values)[kVector]) const {
    const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = __uint_as_float(pairs[i] << 16);
      values[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000);
    }
  }
  __device__ static Vector Round(const float (&values)[kVector]) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
      pairs[i] = *reinterpret_cast<const uint32_t*>(&pair);
    }
    return {make_uint4(pairs[0], pairs[1], pairs[2], pairs[3])};
  }
};

__device__ void LoadFloats(const float* from, float (&values)[kVector]) {
  *reinterpret_cast<float4*>(values) = *reinterpret_cast<const float4*>(from);
  *reinterpret_cast<float4*>(values + 4) = *reinterpret_cast<const float4*>(from + 4);
}
__device__ void StoreFloats(const float (&values)[kVector], float* to) {
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(values);
  *reinterpret_cast<float4*>(to + 4) = *reinterpret_cast<const float4*>(values + 4);
}

__device__ void StoreAs(const Vector& vector, float* to) {
  float values[kVector];
  vector.Unpack(values);
  StoreFloats(values, to);
}
__device__ void StoreAs(const Vector& vector, __nv_bfloat16* to) { vector.Store(to); }

// One block: one row.
template <typename T>
__global__ void EmbedKernel(const __nv_bfloat16* table, const int32_t* tokens, int width, T* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t row = blockIdx.x;
  const __nv_bfloat16* from = table + static_cast<int64_t>(tokens[row]) * width;
  for (int i = threadIdx.x * kVector; i < width; i += blockDim.x * kVector) {
    StoreAs(Vector::Load(from + i), out + row * width + i);
  }
}

constexpr int kNormThreads = 512;

__device__ float BlockSum(float value) {
  __shared__ float warp_sums[kNormThreads / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffff, value, distance);
  }
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (const float warp_sum : warp_sums) sum += warp_sum;
  return sum;
}

// One block: one row. A thread holds kHeld times 8 values; of wider rows, the rest is read twice.
template <bool kAdd>
__global__ void __launch_bounds__(kNormThreads)
    RmsNormKernel(float* x, const __nv_bfloat16* delta, const float* weight, float epsilon,
                  int width, __nv_bfloat16* out) {
  constexpr int kHeld = 2;
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t offset = static_cast<int64_t>(blockIdx.x) * width;
  float held[kHeld][kVector];
  float squares = 0.0f;
  int step = 0;
  for (int i = threadIdx.x * kVector; i < width; i += kNormThreads * kVector, ++step) {
    float values[kVector];
    LoadFloats(x + offset + i, values);
    if (kAdd) {
      float added[kVector];
      Vector::Load(delta + offset + i).Unpack(added);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] += added[j];
      StoreFloats(values, x + offset + i);
    }
#pragma unroll
    for (const float value : values) squares += value * value;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) held[j][k] = step == j ? values[k] : held[j][k];
    }
  }
  const float scale = rsqrtf(BlockSum(squares) / width + epsilon);
  step = 0;
  for (int i = threadIdx.x * kVector; i < width; i += kNormThreads * kVector, ++step) {
    float values[kVector];
    if (step >= kHeld) LoadFloats(x + offset + i, values);
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
#pragma unroll
      for (int k = 0; k < kVector; ++k) values[k] = step == j ? held[j][k] : values[k];
    }
    float weights[kVector];
    LoadFloats(weight + i, weights);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= scale * weights[j];
    Vector::Round(values).Store(out + offset + i);
  }
}

constexpr int kSwiGluThreads = 256;

// One thread: 8 columns of one row. Grid: (columns, rows).
__global__ void __launch_bounds__(kSwiGluThreads)
    SwiGluKernel(const __nv_bfloat16* gate_up, int width, __nv_bfloat16* out) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int i = (blockIdx.x * kSwiGluThreads + threadIdx.x) * kVector;
  if (i >= width) return;
  const int64_t row = blockIdx.y;
  float gate[kVector];
  float up[kVector];
  Vector::Load(gate_up + row * 2 * width + i).Unpack(gate);
  Vector::Load(gate_up + (row * 2 + 1) * width + i).Unpack(up);
#pragma unroll
  for (int j = 0; j < kVector; ++j) gate[j] *= up[j] / (1.0f + __expf(-gate[j]));
  Vector::Round(gate).Store(out + row * width + i);
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
    Vector::Load(from + source * width + i).Store(to + target * width + i);
  }
}

// Threads that copy a row.
int CopyThreads(int width) { return std::min(1024, (width / kVector + 31) / 32 * 32); }

}  // namespace

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
  constexpr int kColumns = kSwiGluThreads * kVector;
  const dim3 grid((width + kColumns - 1) / kColumns, rows);
  return LaunchDependent(SwiGluKernel, grid, kSwiGluThreads, 0, stream, gate_up, width, out);
}

cudaError_t LaunchCopyRows(const __nv_bfloat16* from, const int* from_rows, int count, int width,
                           __nv_bfloat16* to, const int* to_rows, cudaStream_t stream) {
  assert(width % kVector == 0);
  return LaunchDependent(CopyRowsKernel, count, CopyThreads(width), 0, stream, from, from_rows,
                         width, to, to_rows);
}

}  // namespace weir
