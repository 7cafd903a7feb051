#include "tests/testing/naive_cascade.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace weir {

namespace {

// Checked in every build: a reference that is used wrongly must not pass a test.
void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "NaiveCascade: %s\n", what);
  std::abort();
}

}  // namespace

NaiveCascade::NaiveCascade(const NaiveCascadeSettings& settings) : settings_(settings) {
  Require(settings.sinks >= 0, "sinks must not be negative");
  Require(settings.sub_caches >= 1, "at least one sub-cache is needed");
  Require(settings.slots >= settings.sub_caches, "each sub-cache needs a slot");
  Require(settings.slots % settings.sub_caches == 0, "sub_caches must divide slots");
  rings_.resize(settings.sub_caches);
}

void NaiveCascade::Admit(NaiveCachedToken token) {
  Require(token.index == tokens_seen_, "tokens must be admitted in order");
  const int64_t n = tokens_seen_++;
  const int64_t s = n - settings_.sinks;
  if (s < 0) {
    sinks_.push_back(std::move(token));
    return;
  }
  const size_t ring_slots = settings_.slots / settings_.sub_caches;
  NaiveCachedToken arrival = std::move(token);
  for (int i = 0; i < settings_.sub_caches; ++i) {
    std::deque<NaiveCachedToken>& ring = rings_[i];
    const bool still_filling = n <= settings_.slots + settings_.sinks;
    const bool accepts = still_filling || s % (int64_t{1} << i) == 0;
    if (!accepts) {
      // The arrival challenges the newest token; the winner has the slot, the loser is gone.
      if (ring.empty()) {
        ring.push_back(std::move(arrival));
        return;
      }
      contests_.push_back({.arrival = arrival.index,
                           .newest = ring.back().index,
                           .arrival_score = arrival.score,
                           .newest_score = ring.back().score});
      if (arrival.score >= ring.back().score) ring.back() = std::move(arrival);
      return;
    }
    ring.push_back(std::move(arrival));
    if (ring.size() <= ring_slots) return;
    arrival = std::move(ring.front());  // evicted here, it arrives at the next sub-cache
    ring.pop_front();
  }
}

std::vector<NaiveCachedToken*> NaiveCascade::ByPosition() {
  std::vector<NaiveCachedToken*> tokens;
  for (NaiveCachedToken& token : sinks_) tokens.push_back(&token);
  for (int i = settings_.sub_caches - 1; i >= 0; --i) {
    for (NaiveCachedToken& token : rings_[i]) tokens.push_back(&token);
  }
  return tokens;
}

std::vector<int64_t> NaiveCascade::KeptIndices() const {
  std::vector<int64_t> indices;
  for (const NaiveCachedToken& token : sinks_) indices.push_back(token.index);
  for (int i = settings_.sub_caches - 1; i >= 0; --i) {
    for (const NaiveCachedToken& token : rings_[i]) indices.push_back(token.index);
  }
  return indices;
}

}  // namespace weir
