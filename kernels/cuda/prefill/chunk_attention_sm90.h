#ifndef WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_SM90_H_
#define WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_SM90_H_

#include <cuda_runtime.h>

#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/prefill_schedule.h"

namespace weir {

enum class ColumnSumMode {
  kNone,
  kFast,   // in the same pass, with each row's normaliser as it is when its tile is done
  kExact,  // in a second pass, with the final normalisers
};

// A PrefillSchedule in device memory.
struct DeviceSchedule {
  const PrefillItem* items;
  const int* first_item;
  int blocks;
};

// ChunkAttention on Hopper. The schedule is that of SchedulePrefill for the chunk's rows, cached
// keys and query heads. Results do not depend on how the blocks run.
cudaError_t LaunchHopperChunkAttention(const ChunkAttention& attention,
                                       const DeviceSchedule& schedule, ColumnSumMode mode,
                                       cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_CHUNK_ATTENTION_SM90_H_
