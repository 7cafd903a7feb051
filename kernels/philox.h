#ifndef WEIR_KERNELS_PHILOX_H_
#define WEIR_KERNELS_PHILOX_H_

#include <array>
#include <cstdint>

#include "kernels/host_device.h"

namespace weir {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC
// 2011): 128 random bits that are a function of a counter and a key, without any state. Host and
// device compile this one copy.
WEIR_HOST_DEVICE constexpr std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter,
                                                          std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Philox with key `seed` and counter (index, c2, c3).
WEIR_HOST_DEVICE constexpr std::array<uint32_t, 4> RandomWords(uint64_t seed, uint64_t index,
                                                               uint32_t c2, uint32_t c3) {
  return Philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), c2, c3},
                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// A number in [0, 1), evenly spread, that is a function of `seed` and `index`: the upper 53 bits of
// the first two of RandomWords(seed, index, 0, 0).
constexpr double UniformRandom(uint64_t seed, uint64_t index) {
  const std::array<uint32_t, 4> words = RandomWords(seed, index, 0, 0);
  const uint64_t bits = uint64_t{words[0]} << 32 | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace weir

#endif  // WEIR_KERNELS_PHILOX_H_
