// Small Llama models with random weights, for tests. The same seed gives the same model.

#ifndef WEIR_TESTS_TESTING_RANDOM_MODEL_H_
#define WEIR_TESTS_TESTING_RANDOM_MODEL_H_

#include <cstdint>
#include <vector>

#include "tests/testing/naive_llama.h"

namespace weir {

// What a weight matrix can be written as without loss. Q8_0 and Q4_1 are GGUF's blocks of 32
// weights of one row, so they need rows of a multiple of 32.
enum class ExactFormat { kF32, kF16, kQ8_0, kQ4_1 };

// Weights are such that attention has sharp and flat heads, and next tokens differ clearly in
// probability. Matrices are exact in `matrices`, the embedding (which is the classifier too) in
// `embedding`, norms in float32.
NaiveLlamaModel MakeRandomModel(const NaiveLlamaConfig& config, uint64_t seed,
                                ExactFormat matrices = ExactFormat::kF32,
                                ExactFormat embedding = ExactFormat::kF32);

// Uniform in [0, vocabulary).
std::vector<int> RandomTokens(int count, int vocabulary, uint64_t seed);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_RANDOM_MODEL_H_
