#ifndef WEIR_KERNELS_CUDA_PEERS_PROCESS_IDENTITY_H_
#define WEIR_KERNELS_CUDA_PEERS_PROCESS_IDENTITY_H_

#include <cstdint>

namespace weir {

// A process, as others of its host can tell it from all there ever were. Plain data.
struct ProcessIdentity {
  uint64_t random = 0;
  int64_t pid = 0;
  uint64_t started = 0;         // in clock ticks since the host's start; 0: not known
  char pid_namespace[32] = {};  // that `pid` counts in

  friend bool operator==(const ProcessIdentity& a, const ProcessIdentity& b) {
    return a.random == b.random;
  }
};

// The calling process, under a random number that is new with every call. Thread-safe, as all here.
ProcessIdentity IdentifyProcess();
// The same, under one number for as long as the process lives.
const ProcessIdentity& ThisProcess();

// Whether a process of this host is known to have ended, so that nothing of it still runs. False
// also where that cannot be told, such as for one in another container.
bool HasEnded(const ProcessIdentity& process);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_PROCESS_IDENTITY_H_
