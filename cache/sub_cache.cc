#include "cache/sub_cache.h"

#include <algorithm>
#include <cassert>

#include "kernels/cascade_policy.h"

namespace weir {

SubCache::SubCache(int level, const CascadeConfig& cascade)
    : level_(level),
      sinks_(cascade.sinks),
      slots_(cascade.slots),
      ring_slots_(cascade.ring_slots()) {}

RingAdmission SubCache::Plan(std::vector<int64_t>& pushed_by) const {
  RingAdmission admission;
  admission.size = size_;
  admission.head = head_;
  admission.arrivals = static_cast<int>(pushed_by.size());
  for (int i = 0; i < admission.arrivals; ++i) {
    const bool empty = size_ == 0 && admission.run_begin.empty();
    if (empty || SubCacheAccepts(pushed_by[i], sinks_, slots_, level_)) {
      admission.run_begin.push_back(i);
    }
  }
  admission.run_begin.push_back(admission.arrivals);

  admission.evicted = std::max(0, size_ + admission.new_entries() - ring_slots_);
  // Entry e leaves when entry e + ring_slots comes. run_begin[k] >= k >= e: read before written.
  for (int e = 0; e < admission.evicted; ++e) {
    pushed_by[e] = pushed_by[admission.run_begin[e + ring_slots_ - size_]];
  }
  pushed_by.resize(admission.evicted);
  return admission;
}

void SubCache::Commit(const RingAdmission& admission) {
  assert(admission.size == size_ && admission.head == head_);
  size_ += admission.new_entries() - admission.evicted;
  head_ = (head_ + admission.evicted) % ring_slots_;
  arrivals_ += admission.arrivals;
  accepts_ += admission.new_entries();
  evictions_ += admission.evicted;
  assert(size_ >= 0 && size_ <= ring_slots_);
}

}  // namespace weir
