#ifndef WEIR_KERNELS_CPU_CPU_KV_STORAGE_H_
#define WEIR_KERNELS_CPU_CPU_KV_STORAGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/kv_storage.h"

namespace weir {

// The slots of one session, layer and KV head.
struct HeadSlots {
  // Keys, rotated, as the right-hand side of queries * keys: tiles of 16 slots,
  // [tile][head_dim][16].
  float* keys = nullptr;
  float* values = nullptr;    // [slots][value_stride]
  float* scores = nullptr;    // [slots]
  int64_t* tokens = nullptr;  // [slots]
};

// Caches in host memory, float32.
class CpuKvStorage final : public KvStorage {
 public:
  static absl::StatusOr<std::unique_ptr<CpuKvStorage>> Allocate(const KvShape& shape,
                                                                const RopeTable& rope);

  const KvShape& shape() const override { return shape_; }
  int64_t bytes() const override { return memory_.bytes(); }
  int64_t bytes_per_session() const override { return memory_.bytes() / shape_.sessions; }
  std::vector<int64_t> swaps() const override { return swaps_; }
  SlotContents Read(int cache_slot, int layer, int kv_head) const override;

  HeadSlots head(int cache_slot, int layer, int kv_head) const;
  // head_dim rounded up to whole tiles; the rest of each row is zero.
  int value_stride() const { return value_stride_; }
  const RopeTable& rope() const { return rope_; }
  std::vector<int64_t>& mutable_swaps() { return swaps_; }

 private:
  CpuKvStorage(const KvShape& shape, const RopeTable& rope);

  KvShape shape_;
  RopeTable rope_;
  int value_stride_;
  int64_t key_bytes_;  // of one session, layer and KV head, like the next three
  int64_t value_bytes_;
  int64_t score_bytes_;
  int64_t token_bytes_;
  AlignedMemory memory_;
  std::vector<int64_t> swaps_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_CPU_KV_STORAGE_H_
