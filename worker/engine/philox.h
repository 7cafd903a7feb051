#ifndef WEIR_WORKER_ENGINE_PHILOX_H_
#define WEIR_WORKER_ENGINE_PHILOX_H_

#include <array>
#include <cstdint>

namespace weir {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC
// 2011): 128 random bits that are a function of a counter and a key, without any state.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A number in [0, 1), evenly spread, that is a function of `seed` and `index`: the upper 53 bits of
// the first two words of Philox with key `seed` and counter `index`.
double UniformRandom(uint64_t seed, uint64_t index);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_PHILOX_H_
