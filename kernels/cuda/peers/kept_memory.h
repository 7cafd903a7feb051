#ifndef WEIR_KERNELS_CUDA_PEERS_KEPT_MEMORY_H_
#define WEIR_KERNELS_CUDA_PEERS_KEPT_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kernels/cuda/peers/process_identity.h"

namespace weir {

// Device memory that other processes have mapped, between two groups. It is never given back to the
// driver, since nobody can know that no peer maps it any more, but kept for a next group of this
// process. Not before all who may still write to it are known not to: a rank that was stopped, and
// has been given up, may have enqueued copies, which run when it goes on. Thread-safe.
class KeptMemory {
 public:
  static KeptMemory& OfThisProcess();

  // `bytes` at `data` on GPU `device`, which `writers` have mapped.
  void Keep(int device, int64_t bytes, std::byte* data, std::vector<ProcessIdentity> writers);
  // Memory of that size to which nobody writes any more; null if there is none.
  std::byte* Take(int device, int64_t bytes);
  // `process` joins a group with this one anew: all that it did in earlier ones is over.
  void Returned(const ProcessIdentity& process);

 private:
  struct Block {
    int device;
    int64_t bytes;
    std::byte* data;
    std::vector<ProcessIdentity> writers;  // that are not known to be over with it
  };

  std::mutex mutex_;
  std::vector<Block> blocks_;  // guarded by mutex_
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_KEPT_MEMORY_H_
