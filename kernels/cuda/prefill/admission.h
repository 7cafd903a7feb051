#ifndef WEIR_KERNELS_CUDA_PREFILL_ADMISSION_H_
#define WEIR_KERNELS_CUDA_PREFILL_ADMISSION_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/common/rope.h"
#include "kernels/sequence_step.h"

namespace weir {

// The admission of one SequenceStep as a kernel takes it, by value. It is the same for all layers
// and heads; only the lists of runs lie in device memory.
struct AdmissionStep {
  static constexpr int kMostRings = 32;

  struct Ring {
    int size, head, evicted;  // as in RingAdmission
    int new_entries;
    int runs;         // where its run_begin starts in the lists of runs
    int first_moved;  // entries before this one stay, or are evicted
    int first_move;   // where its moves start in the head's list of sources
  };

  int first_row;
  int rows;
  int64_t first_token;
  int sinks;
  int ring_slots;
  int ring_count;
  int first_sink_slot;
  int sink_rows;
  int moves;  // sources of one head
  Ring rings[kMostRings];

  // Entries of `ring` that may get another token: [first_moved, first_moved + moved).
  static constexpr int Moved(const Ring& ring) {
    return ring.size + ring.new_entries - ring.first_moved;
  }
};

struct PackedAdmission {
  AdmissionStep step;
  std::vector<int> runs;  // of all rings, one after another
};
PackedAdmission PackAdmission(const SequenceStep& step);

// One session's slots in one layer, all KV heads, in device memory.
struct LayerSlots {
  int kv_heads;
  int head_dim;  // a multiple of 4
  int slots;
  __nv_bfloat16* keys;    // [kv_heads][slots][head_dim] rotated by the slot's index in its ring
  __nv_bfloat16* values;  // [kv_heads][slots][head_dim]
  float* scores;          // [kv_heads][slots]
  int64_t* tokens;        // [kv_heads][slots]
};

// The rows that are admitted.
struct AdmissionRows {
  const __nv_bfloat16* keys;    // [rows of the step][kv_heads][head_dim] not rotated
  const __nv_bfloat16* values;  // [rows of the step][kv_heads][head_dim]
  int64_t row_stride;           // of both, in elements
  const float* scores;          // [kv_heads][score_stride], by row of the step
  int64_t score_stride;
};

// Where a token comes from, while it is admitted.
struct AdmissionArrival {
  int source;  // a row, or ~slot
  float score;
};

struct AdmissionScratch {
  const int* runs;             // PackedAdmission::runs
  int* sources;                // [kv_heads][step.moves] rows or ~slots
  AdmissionArrival* arrivals;  // [kv_heads][2][rows]
  unsigned long long* swaps;   // [ring_count] challenges won are added
};

// Admits the step's rows to one layer's cache: one launch chooses who goes where, by the same rule
// and in the same order as on the CPU, then one launch a ring moves what really moves.
cudaError_t LaunchAdmission(const AdmissionStep& step, const LayerSlots& slots,
                            const AdmissionRows& rows, const DeviceRope& rope,
                            const AdmissionScratch& scratch, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_ADMISSION_H_
