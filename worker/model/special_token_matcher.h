#ifndef WEIR_WORKER_MODEL_SPECIAL_TOKEN_MATCHER_H_
#define WEIR_WORKER_MODEL_SPECIAL_TOKEN_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace weir {

// Finds the texts of special tokens, the longest where several begin at one place. Immutable once
// filled, thread-safe then.
class SpecialTokenMatcher {
 public:
  struct Match {
    size_t length = 0;  // bytes; 0: no special token begins here
    int32_t token = -1;
    // The text ended before it was clear whether a special token, or a longer one, begins here.
    bool undecided = false;
  };

  // `text` is not empty and was not added before.
  void Add(absl::string_view text, int32_t token);

  // The longest special token that `text` begins with.
  Match LongestAt(absl::string_view text) const;

 private:
  // A trie; node 0 is the root. A child is found by its parent and the byte that leads to it.
  struct Node {
    int32_t token = -1;  // whose text ends here
    bool has_children = false;
  };
  static uint64_t Edge(uint32_t node, char byte) {
    return (uint64_t{node} << 8) | static_cast<uint8_t>(byte);
  }
  std::vector<Node> nodes_ = {Node{}};
  absl::flat_hash_map<uint64_t, uint32_t> children_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_SPECIAL_TOKEN_MATCHER_H_
