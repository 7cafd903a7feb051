#ifndef WEIR_CACHE_KV_CACHE_H_
#define WEIR_CACHE_KV_CACHE_H_

#include <cstdint>
#include <vector>

#include "cache/sub_cache.h"
#include "kernels/cascade_config.h"
#include "kernels/sequence_step.h"

namespace weir {

// A filled slot of a session's block in KvStorage.
struct LiveSlot {
  int slot;       // from the session's first slot, as in KeySegment
  int sub_cache;  // LiveSlot::kSink, or which ring

  static constexpr int kSink = -1;

  friend bool operator==(const LiveSlot&, const LiveSlot&) = default;
};

// One session's fixed cache on one rank: its block of slots in KvStorage and the counters that say
// which of them are filled. A few hundred bytes, whatever the session's length; keys, values and
// scores are the backend's. The counters follow from the tokens seen alone, so ranks that plan the
// same steps agree without talking.
//
//   SequenceStep step = cache.Plan(first_row, rows);
//   ... every layer: backend.Attend(..., step, ...), backend.Admit(..., step, ...) ...
//   cache.Commit(step);
//
// Not thread-safe; used by the engine's thread. cache/README.md tells the algorithm.
class KvCache {
 public:
  // An empty cache in block `cache_slot`, with settings that passed ValidateCascade.
  KvCache(int cache_slot, const CascadeConfig& cascade);

  // What the session's next `rows` tokens (1 to stride) do, if they are rows [first_row, first_row
  // + rows) of the step. Takes O(rows * sub_caches) time, whatever the cache's size.
  SequenceStep Plan(int first_row, int rows) const;

  // Advances the counters past `step`, which was planned since the last Commit.
  void Commit(const SequenceStep& step);

  int cache_slot() const { return cache_slot_; }
  const CascadeConfig& cascade() const { return cascade_; }
  const std::vector<SubCache>& sub_caches() const { return sub_caches_; }

  // Tokens seen since the session began.
  int64_t tokens() const { return tokens_; }
  // Filled slots; also the position of the next step's first row.
  int filled_slots() const;
  // The largest position a token ever had, -1 before the first; below sinks + slots + stride.
  int max_position() const { return max_position_; }

  // The filled slots in age order, oldest first: entry p is at position p.
  std::vector<LiveSlot> LiveSlots() const;

 private:
  int filled_sinks() const;
  std::vector<KeySegment> Segments() const;

  int cache_slot_;
  CascadeConfig cascade_;
  int64_t tokens_ = 0;
  int max_position_ = -1;
  std::vector<SubCache> sub_caches_;
};

}  // namespace weir

#endif  // WEIR_CACHE_KV_CACHE_H_
