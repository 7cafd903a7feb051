#include "kernels/cuda/peers/kept_memory.h"

#include <utility>

namespace weir {

KeptMemory& KeptMemory::OfThisProcess() {
  static auto* const kept = new KeptMemory;
  return *kept;
}

void KeptMemory::Keep(int device, int64_t bytes, std::byte* data,
                      std::vector<ProcessIdentity> writers) {
  const std::lock_guard lock(mutex_);
  blocks_.push_back({device, bytes, data, std::move(writers)});
}

std::byte* KeptMemory::Take(int device, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->device != device || block->bytes != bytes) continue;
    std::erase_if(block->writers, HasEnded);
    if (!block->writers.empty()) continue;
    std::byte* const data = block->data;
    blocks_.erase(block);
    return data;
  }
  return nullptr;
}

void KeptMemory::Returned(const ProcessIdentity& process) {
  const std::lock_guard lock(mutex_);
  for (Block& block : blocks_) std::erase(block.writers, process);
}

}  // namespace weir
