#ifndef WEIR_TESTS_TESTING_ENCODE_WEIGHTS_H_
#define WEIR_TESTS_TESTING_ENCODE_WEIGHTS_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "kernels/weight_type.h"

namespace weir {

// The bytes of `values` stored as `type`, rounded to nearest: one row, or several end to end. Their
// number is a multiple of BlockWeights(type). Quantised blocks are scaled to their own largest
// value (kQ4_1: to their own range), so a stored weight is off by at most half a step.
std::string EncodeWeights(WeightType type, absl::Span<const float> values);

// The bits of the binary16 nearest to `value`, ties to even.
uint16_t FloatToHalf(float value);

// The bits of the bfloat16 nearest to `value`, ties to even.
uint16_t FloatToBFloat16(float value);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_ENCODE_WEIGHTS_H_
