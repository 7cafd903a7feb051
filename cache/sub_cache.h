#ifndef WEIR_CACHE_SUB_CACHE_H_
#define WEIR_CACHE_SUB_CACHE_H_

#include <cstdint>
#include <vector>

#include "kernels/cascade_config.h"
#include "kernels/sequence_step.h"

namespace weir {

// The counters of one ring of a cascade. Which tokens lie in it differs by layer and KV head; how
// many, and where the oldest is, does not, and is all that is kept here. Not thread-safe.
class SubCache {
 public:
  // Sub-cache `level` (0 is the newest) of a session with valid settings.
  SubCache(int level, const CascadeConfig& cascade);

  int size() const { return size_; }  // entries
  int head() const { return head_; }  // ring slot of the oldest entry

  // Over the session's life.
  int64_t arrivals() const { return arrivals_; }
  int64_t accepts() const { return accepts_; }
  int64_t evictions() const { return evictions_; }

  // Plans admission of the arrivals pushed by the stream tokens `pushed_by` (ascending), without
  // changing the counters. Replaces `pushed_by` by the tokens that push out the ring's evictions,
  // in order: the arrivals of the next level. Linear in the arrivals.
  RingAdmission Plan(std::vector<int64_t>& pushed_by) const;

  // Makes the latest plan true.
  void Commit(const RingAdmission& admission);

 private:
  int level_;
  int sinks_;
  int slots_;  // of the whole cascade
  int ring_slots_;
  int size_ = 0;
  int head_ = 0;
  int64_t arrivals_ = 0;
  int64_t accepts_ = 0;
  int64_t evictions_ = 0;
};

}  // namespace weir

#endif  // WEIR_CACHE_SUB_CACHE_H_
