#ifndef WEIR_KERNELS_CPU_ELEMENTWISE_H_
#define WEIR_KERNELS_CPU_ELEMENTWISE_H_

#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace weir {

// The operations of Backend with the same names, on float32 tensors. A row's result depends on that
// row alone.
void RmsNorm(ThreadPool& pool, Tensor x, Tensor weight, float epsilon, Tensor out);
void AddRmsNorm(ThreadPool& pool, Tensor x, Tensor delta, Tensor weight, float epsilon, Tensor out);
void SwiGlu(ThreadPool& pool, Tensor gate_up, Tensor out);

// The instruction set that is used here, such as "avx2".
const char* InstructionSet();

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_ELEMENTWISE_H_
