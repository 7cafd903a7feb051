#ifndef WEIR_KERNELS_CUDA_CUDA_KV_STORAGE_H_
#define WEIR_KERNELS_CUDA_CUDA_KV_STORAGE_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/prefill/admission.h"
#include "kernels/kv_storage.h"

namespace weir {

// Caches in device memory, keys and values in bfloat16, and the scratch memory that attention and
// admission need for one pass at a time. Everything is allocated here.
class CudaKvStorage final : public KvStorage {
 public:
  // Scratch of prefill, for one chunk; see chunk_attention.h, chunk_preparation.h, admission.h.
  struct ChunkScratch {
    __nv_bfloat16* rotated_rows;  // [stride][query_heads + kv_heads][head_dim]
    __nv_bfloat16* rotated_keys;  // [kv_heads][slots][head_dim]
    float* own_key_norms;
    float* cached_key_norms;
    float* log2_normalizers;          // [query_heads][stride]
    unsigned long long* column_sums;  // [query_heads][slots + stride]
    int* sources;
    AdmissionArrival* arrivals;
  };

  // `stream` outlives the storage. `decode_rows`: of a decode step, at most.
  static absl::StatusOr<std::unique_ptr<CudaKvStorage>> Allocate(const KvShape& shape,
                                                                 const RopeTable& rope,
                                                                 int decode_rows,
                                                                 cudaStream_t stream);

  const KvShape& shape() const override { return shape_; }
  int64_t bytes() const override { return slots_memory_.bytes(); }
  int64_t bytes_per_session() const override;
  std::vector<int64_t> swaps() const override;
  SlotContents Read(int cache_slot, int layer, int kv_head) const override;

  // One session's slots in one layer.
  LayerSlots layer_slots(int cache_slot, int layer) const;
  // All slots, for decode; the rest is the caller's.
  DecodeAttention decode_attention(int layer) const;
  const ChunkScratch& chunk_scratch() const { return chunk_; }
  DeviceRope rope() const { return rope_; }
  unsigned long long* device_swaps() const { return swaps_; }

 private:
  CudaKvStorage(const KvShape& shape, cudaStream_t stream) : shape_(shape), stream_(stream) {}

  absl::Status AllocateSlots();
  absl::Status AllocateScratch(const RopeTable& rope, int decode_rows);

  KvShape shape_;
  cudaStream_t stream_;
  DeviceMemory slots_memory_;
  DeviceMemory scratch_memory_;
  // [sessions][layers][kv_heads][slots] ...
  __nv_bfloat16* keys_ = nullptr;    // [head_dim]
  __nv_bfloat16* values_ = nullptr;  // [head_dim]
  int64_t* tokens_ = nullptr;
  float* scores_ = nullptr;

  unsigned long long* swaps_ = nullptr;  // [AdmissionStep::kMostRings]
  DeviceRope rope_ = {};
  ChunkScratch chunk_ = {};
  DecodeScratch decode_ = {};
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_KV_STORAGE_H_
