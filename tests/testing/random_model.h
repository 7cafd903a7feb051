// Small Llama models with random weights, for tests. The same seed gives the same model.

#ifndef WEIR_TESTS_TESTING_RANDOM_MODEL_H_
#define WEIR_TESTS_TESTING_RANDOM_MODEL_H_

#include <cstdint>
#include <vector>

#include "kernels/weight_type.h"
#include "tests/testing/naive_llama.h"

namespace weir {

// Weights are such that attention has sharp and flat heads, and next tokens differ clearly in
// probability. `matrices` and `embedding` (which is the classifier too) say how weights can be
// stored without loss: EncodeWeights gives back every one of them. Quantised types need rows of a
// multiple of 32. Norms are exact in float32.
NaiveLlamaModel MakeRandomModel(const NaiveLlamaConfig& config, uint64_t seed,
                                WeightType matrices = WeightType::kF32,
                                WeightType embedding = WeightType::kF32);

// Uniform in [0, vocabulary).
std::vector<int> RandomTokens(int count, int vocabulary, uint64_t seed);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_RANDOM_MODEL_H_
