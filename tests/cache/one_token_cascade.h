#ifndef WEIR_TESTS_CACHE_ONE_TOKEN_CASCADE_H_
#define WEIR_TESTS_CACHE_ONE_TOKEN_CASCADE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

namespace weir {

// The cascade told one token at a time, for tests: no counters, no plans, and its own copy of the
// admission rule, so that it does not share a mistake with the code under test.
class OneTokenCascade {
 public:
  OneTokenCascade(int sinks, int slots, int sub_caches)
      : sink_count_(sinks), slots_(slots), rings_(sub_caches) {}

  // Admits the next token. `score` gives the present score of any token.
  void Push(const std::function<float(int64_t)>& score) {
    const int64_t n = next_token_++;
    if (n < sink_count_) {
      sinks_.push_back(n);
      return;
    }
    const size_t ring_slots = slots_ / rings_.size();
    int64_t period = 1;
    int64_t arrival = n;
    for (std::deque<int64_t>& ring : rings_) {
      const bool accepts = n <= slots_ + sink_count_ || (n - sink_count_) % period == 0;
      period *= 2;
      if (!accepts && !ring.empty()) {
        if (score(arrival) >= score(ring.back())) ring.back() = arrival;
        return;
      }
      ring.push_back(arrival);
      if (ring.size() <= ring_slots) return;
      arrival = ring.front();
      ring.pop_front();
    }
  }

  // All tokens kept, in age order.
  std::vector<int64_t> Tokens() const {
    std::vector<int64_t> tokens = sinks_;
    for (auto ring = rings_.rbegin(); ring != rings_.rend(); ++ring) {
      tokens.insert(tokens.end(), ring->begin(), ring->end());
    }
    return tokens;
  }

  const std::deque<int64_t>& ring(int level) const { return rings_[level]; }

 private:
  int sink_count_;
  int slots_;
  int64_t next_token_ = 0;
  std::vector<int64_t> sinks_;
  std::vector<std::deque<int64_t>> rings_;  // tokens, oldest first
};

}  // namespace weir

#endif  // WEIR_TESTS_CACHE_ONE_TOKEN_CASCADE_H_
