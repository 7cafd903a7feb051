#ifndef WEIR_WORKER_MODEL_ROPE_H_
#define WEIR_WORKER_MODEL_ROPE_H_

#include "kernels/backend.h"
#include "worker/model/llama_config.h"

namespace weir {

// cos and sin of rotations 0 to `rotations` - 1. Pair i of rotation r turns by
// r / rope_scale * rope_base^(-2 i / head_dim) / rope_divisors[i]; computed in double precision.
RopeTable MakeRopeTable(const LlamaConfig& config, int rotations);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_ROPE_H_
