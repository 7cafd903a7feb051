#ifndef WEIR_KERNELS_CPU_CPU_BACKEND_H_
#define WEIR_KERNELS_CPU_CPU_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace weir {

struct CpuOptions {
  // Threads that compute, the engine's own included.
  int threads = 1;
};

// The backend for host memory. Activations, keys and values are float32; weights stay quantised in
// memory; softmax and scores are exact. Operations have run when their call returns. The
// instruction set (up to AVX-512) is chosen at run time.
//
// Results depend on neither the number of threads nor the rest of the batch, bit for bit. Several
// backends may live in one process, each driven by its own thread and with its own pool.
//
// INVALID_ARGUMENT unless options.threads is from 1 to 1024.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuOptions& options);

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_CPU_BACKEND_H_
