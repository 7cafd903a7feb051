#include "worker/model/byte_pair_encoding.h"

#include <algorithm>

namespace weir {

bool BytePairEncoding::AddMerge(int32_t left, int32_t right, int32_t merged) {
  const int32_t rank = static_cast<int32_t>(merges_.size());
  return merges_.try_emplace(Key(left, right), Merge{rank, merged}).second;
}

void BytePairEncoding::AddCandidate(Scratch& scratch, int32_t position) const {
  const Scratch::Symbol& left = scratch.symbols_[position];
  if (left.next < 0) return;
  const int32_t right = scratch.symbols_[left.next].token;
  const auto found = merges_.find(Key(left.token, right));
  if (found == merges_.end()) return;
  scratch.candidates_.push_back(
      {found->second.rank, position, left.token, right, found->second.merged});
}

void BytePairEncoding::Encode(absl::string_view piece, Scratch& scratch,
                              std::vector<int32_t>& tokens) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols_;
  std::vector<Scratch::Candidate>& candidates = scratch.candidates_;
  symbols.clear();
  candidates.clear();
  for (const char byte : piece) {
    const int32_t token = byte_tokens_[static_cast<uint8_t>(byte)];
    if (token < 0) continue;
    const int32_t position = static_cast<int32_t>(symbols.size());
    symbols.push_back({token, position - 1, position + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  // A heap with the best candidate in front. Candidates are not taken out when a merge beside them
  // makes them void; they are recognised by their tokens when they come up.
  const auto worse = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) AddCandidate(scratch, i);
  std::make_heap(candidates.begin(), candidates.end(), worse);
  const auto add_candidate = [&](int32_t position) {
    const size_t before = candidates.size();
    AddCandidate(scratch, position);
    if (candidates.size() > before) std::push_heap(candidates.begin(), candidates.end(), worse);
  };
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), worse);
    const Scratch::Candidate best = candidates.back();
    candidates.pop_back();
    Scratch::Symbol& left = symbols[best.position];
    if (left.token != best.left || left.next < 0 || symbols[left.next].token != best.right) {
      continue;
    }
    Scratch::Symbol& right = symbols[left.next];
    left.token = best.merged;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols[left.next].previous = best.position;
    if (left.previous >= 0) add_candidate(left.previous);
    add_candidate(best.position);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) tokens.push_back(symbols[i].token);
}

}  // namespace weir
