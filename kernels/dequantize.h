#ifndef WEIR_KERNELS_DEQUANTIZE_H_
#define WEIR_KERNELS_DEQUANTIZE_H_

#include <cstddef>

#include "absl/types/span.h"
#include "kernels/weight_type.h"

namespace weir {

// Writes the float value of each of the `out.size()` weights of a row stored as `type` at `row`:
// RowBytes(type, out.size()) bytes, at any alignment. out.size() must be a multiple of
// BlockWeights(type). This is the reference: plain scalar code, used where speed does not matter
// and to check the code where it does. Thread-safe.
void DequantizeRow(WeightType type, const std::byte* row, absl::Span<float> out);

}  // namespace weir

#endif  // WEIR_KERNELS_DEQUANTIZE_H_
