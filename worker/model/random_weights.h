#ifndef WEIR_WORKER_MODEL_RANDOM_WEIGHTS_H_
#define WEIR_WORKER_MODEL_RANDOM_WEIGHTS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace weir {

// The standard deviation that models of the Llama family are initialised with. Activations of a
// model with such weights stay finite, whatever its depth, since every layer normalises its input.
inline constexpr double kRandomWeightDeviation = 0.02;

// Fills `weights` with bfloat16 values, in random order but the same in every process on every
// machine: about normally distributed, mean 0, deviation kRandomWeightDeviation. Takes
// less than a second for 2^30 bytes.
void FillWithRandomWeights(absl::Span<uint16_t> weights);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_RANDOM_WEIGHTS_H_
