#ifndef WEIR_KERNELS_GUMBEL_H_
#define WEIR_KERNELS_GUMBEL_H_

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/philox.h"

namespace weir {

// The Gumbel-max draw: of all tokens, the one with the largest logit / temperature + g, where g are
// independent Gumbel variates, is distributed as softmax(logits / temperature). A token's g depends
// on the seed, the stream index and the token alone, so parts of a vocabulary are drawn from one by
// one, and the largest of their winners wins. Host and device compile this one copy; their
// logarithms may differ in the last bit.

// Random bits of the four tokens 4 * quad + {0, 1, 2, 3}. UniformRandom, which decides other
// draws at the same index, has a stream of its own.
WEIR_HOST_DEVICE constexpr std::array<uint32_t, 4> GumbelWords(uint64_t seed, uint64_t index,
                                                               uint32_t quad) {
  return RandomWords(seed, index, quad, 1);
}

// The Gumbel variate -log(-log(1 - v)), v = GumbelUniform(word), is the larger the smaller v is:
// v is finest near 0, where the winners are.
WEIR_HOST_DEVICE inline float GumbelUniform(uint32_t word) {
  const float v = (static_cast<float>(word) + 0.5f) * 0x1p-32f;
  // The float before 1: the least variate is finite.
  return v < 1.0f ? v : 0x1.fffffep-1f;
}

// What the draw compares. v comes from GumbelUniform.
WEIR_HOST_DEVICE inline float PerturbedLogit(float logit, float inverse_temperature, float v) {
  return logit * inverse_temperature - logf(-log1pf(-v));
}

}  // namespace weir

#endif  // WEIR_KERNELS_GUMBEL_H_
