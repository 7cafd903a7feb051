#ifndef WEIR_KERNELS_CUDA_ELEMENTWISE_H_
#define WEIR_KERNELS_CUDA_ELEMENTWISE_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// What lies between the products of a layer, on rows of bfloat16 and a residual in float32: see
// kernels/backend.h for what each computes. Rows are dense; all pointers are device pointers,
// aligned to 16 bytes, and widths are multiples of 8. Every launch takes part in dependent launches
// (dependent_launch.cuh).

// Whether this build has code for the current device: cudaErrorNoKernelImageForDevice if not.
cudaError_t CheckElementwiseCode();

// out[r] = table[tokens[r]], as float or __nv_bfloat16.
template <typename T>
cudaError_t LaunchEmbed(const __nv_bfloat16* table, const int32_t* tokens, int rows, int width,
                        T* out, cudaStream_t stream);

// If `delta` is not null, x[r] += delta[r] first. Then out[r] = x[r] / rms(x[r]) * weight.
cudaError_t LaunchRmsNorm(float* x, const __nv_bfloat16* delta, const float* weight, float epsilon,
                          int rows, int width, __nv_bfloat16* out, cudaStream_t stream);

// gate_up [rows][2 * width] = gate | up: out = silu(gate) * up.
cudaError_t LaunchSwiGlu(const __nv_bfloat16* gate_up, int rows, int width, __nv_bfloat16* out,
                         cudaStream_t stream);

// to[to_rows[i]] = from[from_rows[i]], i < count; null lists mean i itself, and pairs with a
// negative row are left out.
cudaError_t LaunchCopyRows(const __nv_bfloat16* from, const int* from_rows, int count, int width,
                           __nv_bfloat16* to, const int* to_rows, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_ELEMENTWISE_H_
