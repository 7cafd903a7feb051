#ifndef WEIR_KERNELS_CUDA_COMMON_DEPENDENT_LAUNCH_CUH_
#define WEIR_KERNELS_CUDA_COMMON_DEPENDENT_LAUNCH_CUH_

// Programmatic dependent launch: a kernel starts while the kernel before it in the stream still
// runs, so that its launch, its index arithmetic and its first loads of weights cost no time.
//
// A kernel launched by LaunchDependent may begin as soon as every block of the kernel before it has
// called AllowLaterKernels() or has ended. What it must do in return:
//
// - Every thread that touches memory which earlier kernels write *or read* first calls
//   WaitForEarlierKernels(). That means all input but constants such as weights, and all output:
//   an earlier kernel may still be reading what lies there. It returns when the kernel before has
//   ended completely, and what that kernel wrote is visible; in a graph with branches, all kernels
//   that it depends on.
// - Every block calls WaitForEarlierKernels() before it ends, even one that has nothing to do. The
//   wait is for one kernel, the one before; only because that one has waited too before it ended
//   are all kernels before it over as well.
// - What earlier kernels wrote must not be read through __ldg, ld.global.nc or a pointer that is
//   `const __restrict__`: such loads are for data that is constant while the kernel runs, and the
//   compiler may move them before the wait. Weights may be.
//
// AllowLaterKernels() promises nothing about memory, so a kernel may call it at once, before its
// own wait. Later blocks then take the registers and shared memory that this kernel leaves free;
// they cannot displace its own blocks, which have all started by then.
//
// Kernels launched plainly may stand anywhere among these: such a kernel starts when all before it
// is over, and a dependent kernel behind it starts early only as its blocks end. In stream capture
// a dependent launch becomes a programmatic edge of the graph.
//
// Below compute capability 9.0 a dependent launch is a plain one, and the device functions are
// empty.

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "kernels/cuda/common/device_attribute.h"

namespace weir {

__device__ inline void WaitForEarlierKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void AllowLaterKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Launches `kernel`, which keeps the contract above, on the current device. More than 48 KiB of
// shared memory must have been allowed with cudaFuncSetAttribute. Returns the launch's error.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchDependent(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                            size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  int major = 0;
  const cudaError_t error = GetDeviceAttribute(cudaDevAttrComputeCapabilityMajor, major);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = major >= 9 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_DEPENDENT_LAUNCH_CUH_
