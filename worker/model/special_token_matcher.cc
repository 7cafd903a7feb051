#include "worker/model/special_token_matcher.h"

#include <cassert>

namespace weir {

void SpecialTokenMatcher::Add(absl::string_view text, int32_t token) {
  assert(!text.empty());
  uint32_t node = 0;
  for (const char byte : text) {
    const auto [child, is_new] =
        children_.try_emplace(Edge(node, byte), static_cast<uint32_t>(nodes_.size()));
    if (is_new) {
      nodes_[node].has_children = true;
      nodes_.emplace_back();
    }
    node = child->second;
  }
  assert(nodes_[node].token < 0);
  nodes_[node].token = token;
}

SpecialTokenMatcher::Match SpecialTokenMatcher::LongestAt(absl::string_view text) const {
  Match match;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto child = children_.find(Edge(node, text[i]));
    if (child == children_.end()) return match;
    node = child->second;
    if (nodes_[node].token >= 0) {
      match.length = i + 1;
      match.token = nodes_[node].token;
    }
  }
  match.undecided = nodes_[node].has_children;
  return match;
}

}  // namespace weir
