#include "cache/kv_cache.h"

#include <algorithm>
#include <cassert>
#include <numeric>

namespace weir {

KvCache::KvCache(int cache_slot, const CascadeConfig& cascade)
    : cache_slot_(cache_slot), cascade_(cascade) {
  sub_caches_.reserve(cascade.sub_caches);
  for (int level = 0; level < cascade.sub_caches; ++level) {
    sub_caches_.emplace_back(level, cascade);
  }
}

int KvCache::filled_sinks() const {
  return static_cast<int>(std::min<int64_t>(tokens_, cascade_.sinks));
}

int KvCache::filled_slots() const {
  int filled = filled_sinks();
  for (const SubCache& ring : sub_caches_) filled += ring.size();
  return filled;
}

SequenceStep KvCache::Plan(int first_row, int rows) const {
  assert(rows >= 1 && rows <= cascade_.stride);
  SequenceStep step;
  step.cache_slot = cache_slot_;
  step.first_row = first_row;
  step.rows = rows;
  step.first_token = tokens_;
  step.cascade = cascade_;
  step.segments = Segments();
  step.first_sink_slot = filled_sinks();
  step.sink_rows = std::min(rows, cascade_.sinks - filled_sinks());

  std::vector<int64_t> pushed_by(rows - step.sink_rows);
  std::iota(pushed_by.begin(), pushed_by.end(), tokens_ + step.sink_rows);
  step.rings.reserve(sub_caches_.size());
  for (const SubCache& ring : sub_caches_) step.rings.push_back(ring.Plan(pushed_by));
  return step;
}

std::vector<KeySegment> KvCache::Segments() const {
  std::vector<KeySegment> segments;
  segments.reserve(1 + 2 * sub_caches_.size());
  // Add a run of slots whose keys are at `position`, ... and are stored with the rotations
  // `rotation`, ...: the first row, at `row_position`, sees them turned by the difference.
  const int row_position = filled_slots();
  const auto add = [&](int first_slot, int count, int position, int rotation) {
    if (count > 0) segments.push_back({first_slot, count, row_position - position + rotation});
  };

  add(0, filled_sinks(), 0, 0);
  int position = filled_sinks();
  const int ring_slots = cascade_.ring_slots();
  for (int level = cascade_.sub_caches - 1; level >= 0; --level) {
    const SubCache& ring = sub_caches_[level];
    const int ring_begin = cascade_.sinks + level * ring_slots;
    const int until_wrap = std::min(ring.size(), ring_slots - ring.head());
    add(ring_begin + ring.head(), until_wrap, position, ring.head());
    add(ring_begin, ring.size() - until_wrap, position + until_wrap, 0);
    position += ring.size();
  }
  return segments;
}

void KvCache::Commit(const SequenceStep& step) {
  assert(step.cache_slot == cache_slot_ && step.first_token == tokens_);
  max_position_ = std::max(max_position_, filled_slots() + step.rows - 1);
  for (size_t level = 0; level < sub_caches_.size(); ++level) {
    sub_caches_[level].Commit(step.rings[level]);
  }
  tokens_ += step.rows;
}

std::vector<LiveSlot> KvCache::LiveSlots() const {
  std::vector<LiveSlot> slots;
  slots.reserve(filled_slots());
  for (int slot = 0; slot < filled_sinks(); ++slot) slots.push_back({slot, LiveSlot::kSink});
  const int ring_slots = cascade_.ring_slots();
  for (int level = cascade_.sub_caches - 1; level >= 0; --level) {
    const SubCache& ring = sub_caches_[level];
    for (int entry = 0; entry < ring.size(); ++entry) {
      const int ring_slot = (ring.head() + entry) % ring_slots;
      slots.push_back({cascade_.sinks + level * ring_slots + ring_slot, level});
    }
  }
  return slots;
}

}  // namespace weir
