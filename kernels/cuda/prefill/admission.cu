#include <algorithm>
#include <cassert>

#include "kernels/cascade_policy.h"
#include "kernels/cuda/common/rope.cuh"
#include "kernels/cuda/prefill/admission.h"

namespace weir {
namespace {

constexpr int kChoosingThreads = 1024;
constexpr int kMovingWarps = 8;

// What the choosing of one head reads.
struct Choice {
  const AdmissionStep& step;
  const float* slot_scores;
  const float* row_scores;
  const int* runs;

  __device__ AdmissionArrival Row(int row) const { return {row, row_scores[step.first_row + row]}; }
  __device__ AdmissionArrival Slot(int slot) const { return {~slot, slot_scores[slot]}; }
};

// The winner of `incumbent` and arrivals [begin, end), one challenge after another.
template <typename Arrivals>
__device__ AdmissionArrival Fold(AdmissionArrival incumbent, const Arrivals& arrivals, int begin,
                                 int end, int& swaps) {
  for (int i = begin; i < end; ++i) {
    const AdmissionArrival challenger = arrivals(i);
    if (!ChallengerWins(challenger.score, incumbent.score)) continue;
    incumbent = challenger;
    ++swaps;
  }
  return incumbent;
}

// Takes one ring's arrivals in: writes the sources of its moved entries, and who it evicts. Entries
// do not depend on one another, so every thread folds entries of its own.
template <typename Arrivals>
__device__ void ChooseForRing(const Choice& choice, int level, const Arrivals& arrivals,
                              int* sources, AdmissionArrival* evicted, int& swaps) {
  const AdmissionStep& step = choice.step;
  const AdmissionStep::Ring& ring = step.rings[level];
  const int* run_begin = choice.runs + ring.runs;
  const int first_slot = step.sinks + level * step.ring_slots;
  const auto present = [&](int entry) {
    return choice.Slot(first_slot + (ring.head + entry) % step.ring_slots);
  };
  const auto choose = [&](int entry) {
    if (entry < ring.size - 1) return present(entry);
    if (entry == ring.size - 1) return Fold(present(entry), arrivals, 0, run_begin[0], swaps);
    const int run = run_begin[entry - ring.size];
    return Fold(arrivals(run), arrivals, run + 1, run_begin[entry - ring.size + 1], swaps);
  };
  for (int entry = threadIdx.x; entry < ring.evicted; entry += blockDim.x) {
    evicted[entry] = choose(entry);
  }
  for (int i = threadIdx.x; i < AdmissionStep::Moved(ring); i += blockDim.x) {
    sources[ring.first_move + i] = choose(ring.first_moved + i).source;
  }
}

// One block: one KV head.
__global__ void __launch_bounds__(kChoosingThreads)
    ChooseKernel(const __grid_constant__ AdmissionStep step, const LayerSlots slots,
                 const AdmissionRows rows, const AdmissionScratch scratch) {
  __shared__ int block_swaps[AdmissionStep::kMostRings];
  const int head = blockIdx.x;
  const Choice choice = {step, slots.scores + static_cast<int64_t>(head) * slots.slots,
                         rows.scores + head * rows.score_stride, scratch.runs};
  int* sources = scratch.sources + static_cast<int64_t>(head) * step.moves;
  AdmissionArrival* buffers[2];
  buffers[0] = scratch.arrivals + static_cast<int64_t>(head) * 2 * step.rows;
  buffers[1] = buffers[0] + step.rows;
  if (threadIdx.x < AdmissionStep::kMostRings) block_swaps[threadIdx.x] = 0;
  __syncthreads();

  for (int row = threadIdx.x; row < step.sink_rows; row += blockDim.x) sources[row] = row;
  for (int level = 0; level < step.ring_count; ++level) {
    int swaps = 0;
    AdmissionArrival* evicted = buffers[level % 2];
    const AdmissionArrival* before = buffers[(level + 1) % 2];
    if (level == 0) {
      const auto arrivals = [&](int i) { return choice.Row(step.sink_rows + i); };
      ChooseForRing(choice, level, arrivals, sources, evicted, swaps);
    } else {
      const auto arrivals = [&](int i) { return before[i]; };
      ChooseForRing(choice, level, arrivals, sources, evicted, swaps);
    }
    if (swaps > 0) atomicAdd(&block_swaps[level], swaps);
    __syncthreads();
  }
  if (threadIdx.x < step.ring_count && block_swaps[threadIdx.x] > 0) {
    atomicAdd(&scratch.swaps[threadIdx.x],
              static_cast<unsigned long long>(block_swaps[threadIdx.x]));
  }
}

// One warp: one move. `first_move` of the head's sources go to entries of one ring, or to the
// sinks.
__global__ void __launch_bounds__(kMovingWarps * 32)
    MoveKernel(const __grid_constant__ AdmissionStep step, const LayerSlots slots,
               const AdmissionRows rows, const DeviceRope rope, const int* sources, int level,
               int first_move, int moves) {
  const int move = blockIdx.x * kMovingWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int head = blockIdx.y;
  if (move >= moves) return;
  const int source = sources[static_cast<int64_t>(head) * step.moves + first_move + move];
  int slot;
  int rotation;
  if (level < 0) {
    slot = rotation = step.first_sink_slot + move;
  } else {
    const AdmissionStep::Ring& ring = step.rings[level];
    rotation = (ring.head + ring.first_moved + move) % step.ring_slots;
    slot = step.sinks + level * step.ring_slots + rotation;
  }
  if (source == ~slot) return;

  const int64_t first_slot = static_cast<int64_t>(head) * slots.slots;
  const int half = slots.head_dim / 2;
  const __nv_bfloat16* key;
  const __nv_bfloat16* value;
  int from_rotation = 0;
  if (source >= 0) {
    const int64_t offset =
        (step.first_row + source) * rows.row_stride + static_cast<int64_t>(head) * slots.head_dim;
    key = rows.keys + offset;
    value = rows.values + offset;
  } else {
    const int64_t offset = (first_slot + ~source) * slots.head_dim;
    key = slots.keys + offset;
    value = slots.values + offset;
    from_rotation = (~source - step.sinks) % step.ring_slots;
  }
  __nv_bfloat16* new_key = slots.keys + (first_slot + slot) * slots.head_dim;
  __nv_bfloat16* new_value = slots.values + (first_slot + slot) * slots.head_dim;
  for (int i = lane * 2; i < half; i += 64) {
    RotatePairs(key, new_key, half, i, TurnBetween(rope, half, from_rotation, rotation, i));
  }
  for (int i = lane * 4; i < slots.head_dim; i += 128) {
    *reinterpret_cast<uint2*>(new_value + i) = *reinterpret_cast<const uint2*>(value + i);
  }
  if (lane == 0) {
    slots.scores[first_slot + slot] =
        source >= 0 ? rows.scores[head * rows.score_stride + step.first_row + source]
                    : slots.scores[first_slot + ~source];
    slots.tokens[first_slot + slot] =
        source >= 0 ? step.first_token + source : slots.tokens[first_slot + ~source];
  }
}

}  // namespace

PackedAdmission PackAdmission(const SequenceStep& step) {
  assert(step.rings.size() <= AdmissionStep::kMostRings);
  PackedAdmission packed = {};
  AdmissionStep& to = packed.step;
  to.first_row = step.first_row;
  to.rows = step.rows;
  to.first_token = step.first_token;
  to.sinks = step.cascade.sinks;
  to.ring_slots = step.cascade.ring_slots();
  to.ring_count = static_cast<int>(step.rings.size());
  to.first_sink_slot = step.first_sink_slot;
  to.sink_rows = step.sink_rows;
  to.moves = step.sink_rows;
  for (size_t level = 0; level < step.rings.size(); ++level) {
    const RingAdmission& from = step.rings[level];
    AdmissionStep::Ring& ring = to.rings[level];
    ring.size = from.size;
    ring.head = from.head;
    ring.evicted = from.evicted;
    ring.new_entries = std::max(0, from.new_entries());
    ring.runs = static_cast<int>(packed.runs.size());
    ring.first_moved = std::max({ring.evicted, ring.size - 1, 0});
    ring.first_move = to.moves;
    to.moves += AdmissionStep::Moved(ring);
    // Without runs all arrivals challenge the newest entry.
    if (from.run_begin.empty()) {
      packed.runs.push_back(from.arrivals);
    } else {
      packed.runs.insert(packed.runs.end(), from.run_begin.begin(), from.run_begin.end());
    }
  }
  return packed;
}

cudaError_t LaunchAdmission(const AdmissionStep& step, const LayerSlots& slots,
                            const AdmissionRows& rows, const DeviceRope& rope,
                            const AdmissionScratch& scratch, cudaStream_t stream) {
  assert(slots.head_dim % 4 == 0);
  ChooseKernel<<<slots.kv_heads, kChoosingThreads, 0, stream>>>(step, slots, rows, scratch);
  const auto move = [&](int level, int first_move, int moves) {
    if (moves == 0) return;
    const dim3 grid((moves + kMovingWarps - 1) / kMovingWarps, slots.kv_heads);
    MoveKernel<<<grid, kMovingWarps * 32, 0, stream>>>(step, slots, rows, rope, scratch.sources,
                                                       level, first_move, moves);
  };
  // What a ring gets lies in rings before it, so the last ring goes first.
  for (int level = step.ring_count - 1; level >= 0; --level) {
    move(level, step.rings[level].first_move, AdmissionStep::Moved(step.rings[level]));
  }
  move(-1, 0, step.sink_rows);
  return cudaGetLastError();
}

}  // namespace weir
