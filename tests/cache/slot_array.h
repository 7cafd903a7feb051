#ifndef WEIR_TESTS_CACHE_SLOT_ARRAY_H_
#define WEIR_TESTS_CACHE_SLOT_ARRAY_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cascade_policy.h"
#include "kernels/sequence_step.h"

namespace weir {

// What a backend's Admit does to the slots of one layer and KV head, with tokens for keys: carries
// out steps as sequence_step.h words them.
class SlotArray {
 public:
  explicit SlotArray(const CascadeConfig& cascade) : tokens_(cascade.total_slots(), kNever) {}

  static constexpr int64_t kNever = -1;

  int64_t token(int slot) const { return tokens_[slot]; }

  void Admit(const SequenceStep& step, const std::function<float(int64_t)>& score) {
    for (int row = 0; row < step.sink_rows; ++row) {
      tokens_[step.first_sink_slot + row] = step.first_token + row;
    }
    std::vector<int64_t> arrivals;
    for (int row = step.sink_rows; row < step.rows; ++row) {
      arrivals.push_back(step.first_token + row);
    }
    const int ring_slots = step.cascade.ring_slots();
    int ring_begin = step.cascade.sinks;
    for (const RingAdmission& ring : step.rings) {
      const auto slot_of = [&](int entry) { return ring_begin + (ring.head + entry) % ring_slots; };
      std::vector<int64_t> entries;
      for (int entry = 0; entry < ring.size; ++entry) entries.push_back(token(slot_of(entry)));
      const auto challenge = [&](int first, int last) {
        for (int i = first; i < last; ++i) {
          if (ChallengerWins(score(arrivals[i]), score(entries.back()))) {
            entries.back() = arrivals[i];
          }
        }
      };
      challenge(0, ring.run_begin[0]);
      for (int k = 0; k < ring.new_entries(); ++k) {
        entries.push_back(arrivals[ring.run_begin[k]]);
        challenge(ring.run_begin[k] + 1, ring.run_begin[k + 1]);
      }
      for (int entry = ring.evicted; entry < static_cast<int>(entries.size()); ++entry) {
        tokens_[slot_of(entry)] = entries[entry];
      }
      arrivals.assign(entries.begin(), entries.begin() + ring.evicted);
      ring_begin += ring_slots;
    }
  }

 private:
  std::vector<int64_t> tokens_;
};

}  // namespace weir

#endif  // WEIR_TESTS_CACHE_SLOT_ARRAY_H_
