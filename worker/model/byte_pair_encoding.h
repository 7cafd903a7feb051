#ifndef WEIR_WORKER_MODEL_BYTE_PAIR_ENCODING_H_
#define WEIR_WORKER_MODEL_BYTE_PAIR_ENCODING_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace weir {

// Byte pair encoding: a piece of text is first one token per byte; then, again and again, the
// neighbouring pair whose merge has the lowest rank (of equals the leftmost) becomes one token,
// until no pair can be merged. O(n log n) for n bytes. Immutable once filled, thread-safe then.
class BytePairEncoding {
 public:
  // Memory for one Encode at a time, reused by the next.
  class Scratch {
   private:
    friend class BytePairEncoding;
    struct Symbol {
      int32_t token;  // -1: merged into another
      int32_t previous;
      int32_t next;
    };
    struct Candidate {
      int32_t rank;
      int32_t position;  // of the left symbol
      int32_t left;      // the tokens that were there when the candidate was found
      int32_t right;
      int32_t merged;
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> candidates_;
  };

  BytePairEncoding() { byte_tokens_.fill(-1); }

  // Bytes without a token are left out of the encoding before anything is merged, as the reference
  // tokenizer does.
  void SetByteToken(uint8_t byte, int32_t token) { byte_tokens_[byte] = token; }

  // Adds the merge of `left` and `right` into `merged` with the next rank. False, and nothing is
  // added, if the pair was added before.
  bool AddMerge(int32_t left, int32_t right, int32_t merged);

  // Appends the tokens of a piece of less than 2^31 bytes.
  void Encode(absl::string_view piece, Scratch& scratch, std::vector<int32_t>& tokens) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t merged;
  };

  static uint64_t Key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }
  void AddCandidate(Scratch& scratch, int32_t position) const;

  std::array<int32_t, 256> byte_tokens_;
  absl::flat_hash_map<uint64_t, Merge> merges_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_BYTE_PAIR_ENCODING_H_
