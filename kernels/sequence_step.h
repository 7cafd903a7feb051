#ifndef WEIR_KERNELS_SEQUENCE_STEP_H_
#define WEIR_KERNELS_SEQUENCE_STEP_H_

#include <cstdint>
#include <vector>

#include "kernels/cascade_config.h"

namespace weir {

// What one session does in one engine step, as plain data. It follows from the session's counters
// alone, never from scores, so one plan serves all layers, heads and ranks.
//
// Rotation. RoPE positions are dense ranks in age order: sinks, the last ring oldest to newest,
// ..., ring 0, then the rows of the step. A key is stored rotated by its *slot index inside its
// ring* (sinks: inside the sinks), which changes only when the token changes rings. Between two
// wraps of a ring, position and slot index differ by a constant, so the *query* carries the
// difference: all angles stay below sinks + slots + stride + ring slots and come from one table
// made at start-up.

// A run of slots whose keys share one query rotation. Slots count from the session's first slot:
// sinks first, then ring 0, ring 1, ...
struct KeySegment {
  int first_slot;
  int slot_count;
  // Row t of the step attends to these slots with its query rotated by `query_rotation + t`.
  int query_rotation;
};

// Admission to one ring, level by level. Arrivals of ring 0 are the step's rows past `sink_rows`;
// arrivals of ring i + 1 are the entries that ring i evicts, in order.
//
// Entries are numbered in age order: 0 .. size - 1 are in the ring already, `size + k` is new.
// Arrivals [0, run_begin.front()) challenge entry `size - 1`; new entry `size + k` is the winner
// (ChallengerWins, folded in order) of arrivals [run_begin[k], run_begin[k + 1]).
// Entry e lies in ring slot (head + e) % ring_slots, unless it is among the first `evicted`.
struct RingAdmission {
  int size = 0;                // entries before the step
  int head = 0;                // ring slot of the oldest entry before the step
  int arrivals = 0;            // run_begin.back(), when there is a run
  int evicted = 0;             // max(0, size + new entries - ring_slots)
  std::vector<int> run_begin;  // [new entries + 1]; the last is `arrivals`

  int new_entries() const { return static_cast<int>(run_begin.size()) - 1; }
};

struct SequenceStep {
  // The session's block in KvStorage.
  int cache_slot = 0;
  // This session's rows of the step's activations: [first_row, first_row + rows).
  int first_row = 0;
  int rows = 0;
  // Stream index of the first row.
  int64_t first_token = 0;
  CascadeConfig cascade;
  // Cached keys to attend to; at most 1 + 2 * sub_caches, none empty.
  std::vector<KeySegment> segments;
  // The step's own keys are seen causally: row t by rows t .. rows - 1, key and query rotated by
  // their row index, which needs no entry here.

  // The first `sink_rows` rows go to slots [first_sink_slot, first_sink_slot + sink_rows).
  int first_sink_slot = 0;
  int sink_rows = 0;
  std::vector<RingAdmission> rings;  // [sub_caches]
};

}  // namespace weir

#endif  // WEIR_KERNELS_SEQUENCE_STEP_H_
