#ifndef WEIR_KERNELS_CUDA_PEERS_PEER_MEMORY_H_
#define WEIR_KERNELS_CUDA_PEERS_PEER_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/peers/process_identity.h"

namespace weir {

// Device memory that other ranks of this host map, whether they are processes or threads of this
// one, and theirs as this rank maps it. One thread.
class PeerMemory {
 public:
  // `bytes` on GPU `device`, aligned to 256 bytes. RESOURCE_EXHAUSTED when they do not fit;
  // INTERNAL.
  static absl::StatusOr<std::unique_ptr<PeerMemory>> Create(int device, int64_t bytes);
  // Unmaps what Open mapped; no kernel may use it any more. The memory itself is kept for a later
  // object (kept_memory.h).
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  std::byte* data() const { return data_; }

  // Tells where this memory is: bytes that any rank of the same version can Open.
  const std::string& card() const { return card_; }
  // The memory behind another rank's card, mapped until this object is destroyed.
  // FAILED_PRECONDITION, saying why, where this GPU cannot reach it.
  absl::StatusOr<std::byte*> Open(absl::string_view card);

  // Makes the destructor leave everything mapped, because a kernel may still use it.
  void Abandon() { abandoned_ = true; }

 private:
  explicit PeerMemory(int device) : device_(device) {}

  const int device_;
  int64_t bytes_ = 0;
  std::byte* data_ = nullptr;
  std::string card_;
  std::vector<void*> opened_;           // of other processes
  std::vector<ProcessIdentity> peers_;  // that may have mapped this memory
  bool abandoned_ = false;
};

// The GPU of a card, such as "GPU-5d2ae6a1-...": the same on all hosts and in all processes,
// whatever number a process gives it. INVALID_ARGUMENT when `card` is none.
absl::StatusOr<std::string> GpuOfCard(absl::string_view card);

// A random number of a card: no two objects share one.
absl::StatusOr<uint64_t> NonceOfCard(absl::string_view card);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_PEER_MEMORY_H_
