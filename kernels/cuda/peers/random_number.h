#ifndef WEIR_KERNELS_CUDA_PEERS_RANDOM_NUMBER_H_
#define WEIR_KERNELS_CUDA_PEERS_RANDOM_NUMBER_H_

#include <cstdint>
#include <random>

namespace weir {

// A number that no other process draws: 64 bits from the system.
inline uint64_t RandomNumber() {
  std::random_device random;
  return static_cast<uint64_t>(random()) << 32 | random();
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_RANDOM_NUMBER_H_
