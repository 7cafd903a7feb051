// The cascading cache of one KV head, written the slow and obvious way: the reference that the
// cache and the kernels are judged by. It shares no code with them.
//
// One token at a time, in double precision. A ring is a deque, oldest token first. Nothing is
// computed from counters: a position is a token's rank when the cache is listed by age. Keys are
// kept as the model made them, without rotation.
//
// Method: Willette, Lee, Lee, Jeon, Hwang, "Training-Free Exponential Context Extension via
// Cascading KV Cache" (arXiv 2406.17808).

#ifndef WEIR_TESTS_TESTING_NAIVE_CASCADE_H_
#define WEIR_TESTS_TESTING_NAIVE_CASCADE_H_

#include <cstdint>
#include <deque>
#include <vector>

namespace weir {

enum class NaiveHeadReduction { kMax, kMean };

struct NaiveCascadeSettings {
  int sinks = 0;       // S: the first tokens, kept for ever
  int slots = 0;       // W: cached tokens besides the sinks, a multiple of `sub_caches`
  int sub_caches = 1;  // N: rings of W / N slots each
  int stride = 1;      // C: tokens of one prefill chunk
  double beta = 1.0;   // decay of the attention score
  NaiveHeadReduction head_reduction = NaiveHeadReduction::kMax;
};

// One token as one KV head remembers it.
struct NaiveCachedToken {
  int64_t index = 0;  // in the session, from 0
  double score =
      0.0;  // decayed attention, see NaiveLlamaSession; without the common factor 1 - beta
  std::vector<double>
      key;  // [head_dim], not rotated; may be empty where only the policy is of interest
  std::vector<double> value;  // [head_dim], likewise
};

// An arrival that was not accepted, against the newest token of the ring it came to. The arrival
// won if its score was at least the other's.
struct NaiveContest {
  int64_t arrival = 0;  // session index
  int64_t newest = 0;
  double arrival_score = 0.0;
  double newest_score = 0.0;
};

// Not thread-safe.
class NaiveCascade {
 public:
  // Requires that `settings.sub_caches` divides `settings.slots`, and at least one slot per ring.
  explicit NaiveCascade(const NaiveCascadeSettings& settings);

  // Admits the session's next token. Requires token.index == tokens_seen().
  void Admit(NaiveCachedToken token);

  // Every cached token in the order of RoPE positions, so that an element's place in the list is
  // its position: sinks, then the last sub-cache oldest to newest, and so on down to sub-cache 0.
  // The pointers may be used to update scores; they hold until the next Admit.
  std::vector<NaiveCachedToken*> ByPosition();

  // The session indices of ByPosition().
  std::vector<int64_t> KeptIndices() const;

  const std::deque<NaiveCachedToken>& sinks() const { return sinks_; }
  // Sub-cache `i`, oldest token first.
  const std::deque<NaiveCachedToken>& ring(int i) const { return rings_[i]; }
  int64_t tokens_seen() const { return tokens_seen_; }
  // All contests so far: how close a decision was tells whether other arithmetic must agree with
  // it.
  const std::vector<NaiveContest>& contests() const { return contests_; }

 private:
  NaiveCascadeSettings settings_;
  std::deque<NaiveCachedToken> sinks_;
  std::vector<std::deque<NaiveCachedToken>> rings_;  // [sub_caches]
  int64_t tokens_seen_ = 0;
  std::vector<NaiveContest> contests_;
};

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_NAIVE_CASCADE_H_
