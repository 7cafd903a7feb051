#ifndef WEIR_KERNELS_CUDA_PREFILL_RING_POSITION_H_
#define WEIR_KERNELS_CUDA_PREFILL_RING_POSITION_H_

#include <cstdint>

namespace weir {

// A place in a ring of `kStages` buffers; the parity tells its n-th use from the next.
template <int kStages>
struct RingPosition {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_RING_POSITION_H_
