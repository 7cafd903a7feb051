#ifndef WEIR_CACHE_KV_POOL_H_
#define WEIR_CACHE_KV_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv_storage.h"
#include "kernels/tensor.h"

namespace weir {

// Bytes of one session's slots on one rank, a constant: keys and values of type `element`, a
// float32 score and an int64 token index for every layer, KV head and slot.
int64_t SessionBytes(const KvShape& shape, ElementType element);

// Hands out the blocks of KvStorage. All of them exist from the start: acquiring and releasing
// never allocates. The lowest free block is given first, so ranks that make the same calls get the
// same blocks. Not thread-safe.
class KvPool {
 public:
  // `sessions` blocks, numbered from 0; as KvShape::sessions.
  explicit KvPool(int sessions);

  int capacity() const { return static_cast<int>(used_.size()); }
  int used() const { return used_count_; }

  // A block nobody holds. RESOURCE_EXHAUSTED when there is none.
  absl::StatusOr<int> Acquire();
  // Gives back a block that Acquire returned.
  void Release(int cache_slot);

 private:
  std::vector<bool> used_;  // by block
  int used_count_ = 0;
};

}  // namespace weir

#endif  // WEIR_CACHE_KV_POOL_H_
