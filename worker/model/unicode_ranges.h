#ifndef WEIR_WORKER_MODEL_UNICODE_RANGES_H_
#define WEIR_WORKER_MODEL_UNICODE_RANGES_H_

#include <cstdint>

#include "absl/types/span.h"

namespace weir {

// Code points `first` to `last`, both included.
struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

// The letters (\p{L}), numbers (\p{N}) and white space (\s) of the reference tokenizer, sorted and
// disjoint.
absl::Span<const CodePointRange> LetterRanges();
absl::Span<const CodePointRange> NumberRanges();
absl::Span<const CodePointRange> SpaceRanges();

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_UNICODE_RANGES_H_
