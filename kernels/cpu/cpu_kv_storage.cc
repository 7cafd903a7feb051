#include "kernels/cpu/cpu_kv_storage.h"

#include <cassert>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

CpuKvStorage::CpuKvStorage(const KvShape& shape, const RopeTable& rope)
    : shape_(shape),
      rope_(rope),
      value_stride_(static_cast<int>(RoundUp(shape.head_dim, kTileLanes))) {
  const int64_t slots = RoundUp(shape.slots, kTileLanes);
  key_bytes_ = slots * shape.head_dim * static_cast<int64_t>(sizeof(float));
  value_bytes_ = slots * value_stride_ * static_cast<int64_t>(sizeof(float));
  score_bytes_ = slots * static_cast<int64_t>(sizeof(float));
  token_bytes_ = slots * static_cast<int64_t>(sizeof(int64_t));
}

absl::StatusOr<std::unique_ptr<CpuKvStorage>> CpuKvStorage::Allocate(const KvShape& shape,
                                                                     const RopeTable& rope) {
  assert(shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0);
  assert(shape.head_dim % 2 == 0 && rope.head_dim == shape.head_dim);
  std::unique_ptr<CpuKvStorage> storage(new CpuKvStorage(shape, rope));
  const int64_t heads = int64_t{shape.sessions} * shape.layers * shape.kv_heads;
  const int64_t head_bytes =
      storage->key_bytes_ + storage->value_bytes_ + storage->score_bytes_ + storage->token_bytes_;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(heads, head_bytes, &bytes)) bytes = -1;
  absl::StatusOr<AlignedMemory> memory =
      AlignedMemory::Allocate(bytes, absl::StrCat("the KV caches of ", shape.sessions,
                                                  " sessions with ", shape.slots, " slots each"));
  if (!memory.ok()) return memory.status();
  storage->memory_ = std::move(*memory);
  return storage;
}

HeadSlots CpuKvStorage::head(int cache_slot, int layer, int kv_head) const {
  assert(cache_slot >= 0 && cache_slot < shape_.sessions);
  assert(layer >= 0 && layer < shape_.layers);
  assert(kv_head >= 0 && kv_head < shape_.kv_heads);
  const int64_t index = (int64_t{cache_slot} * shape_.layers + layer) * shape_.kv_heads + kv_head;
  std::byte* data =
      memory_.data() + index * (key_bytes_ + value_bytes_ + score_bytes_ + token_bytes_);
  HeadSlots head;
  head.keys = reinterpret_cast<float*>(data);
  data += key_bytes_;
  head.values = reinterpret_cast<float*>(data);
  data += value_bytes_;
  head.scores = reinterpret_cast<float*>(data);
  data += score_bytes_;
  head.tokens = reinterpret_cast<int64_t*>(data);
  return head;
}

SlotContents CpuKvStorage::Read(int cache_slot, int layer, int kv_head) const {
  const HeadSlots slots = head(cache_slot, layer, kv_head);
  return {.tokens = {slots.tokens, slots.tokens + shape_.slots},
          .scores = {slots.scores, slots.scores + shape_.slots}};
}

}  // namespace weir
