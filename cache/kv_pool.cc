#include "cache/kv_pool.h"

#include <algorithm>
#include <cassert>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {

int64_t SessionBytes(const KvShape& shape, ElementType element) {
  const int64_t slot_bytes = 2 * int64_t{shape.head_dim} * ElementBytes(element) +
                             int64_t{sizeof(float)} + int64_t{sizeof(int64_t)};
  return int64_t{shape.layers} * shape.kv_heads * shape.slots * slot_bytes;
}

KvPool::KvPool(int sessions) : used_(sessions, false) {}

absl::StatusOr<int> KvPool::Acquire() {
  const auto free = std::find(used_.begin(), used_.end(), false);
  if (free == used_.end()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", capacity(), " session caches are in use"));
  }
  *free = true;
  ++used_count_;
  return static_cast<int>(free - used_.begin());
}

void KvPool::Release(int cache_slot) {
  assert(cache_slot >= 0 && cache_slot < capacity() && used_[cache_slot]);
  used_[cache_slot] = false;
  --used_count_;
}

}  // namespace weir
