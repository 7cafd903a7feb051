#ifndef WEIR_KERNELS_CUDA_CUDA_STEP_H_
#define WEIR_KERNELS_CUDA_CUDA_STEP_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/prefill/admission.h"
#include "kernels/cuda/prefill/chunk_attention_sm90.h"
#include "kernels/cuda/prefill/prefill_schedule.h"

namespace weir {

// A step in device memory: either a chunk, one sequence of several rows, or a decode step,
// sequences of a row each. The arrays of a decode step have fixed places, which recordings name;
// everything is uploaded in one copy.
class CudaStep final : public DeviceStep {
 public:
  // `blocks`: of the attention kernel, as many as there are multiprocessors.
  static absl::StatusOr<std::unique_ptr<CudaStep>> Allocate(const KvShape& shape, int rows,
                                                            int sequences, int blocks);
  ~CudaStep() override;

  // See Backend::LoadStep. The upload before must be over.
  cudaError_t Load(absl::Span<const int32_t> tokens, absl::Span<const SequenceStep> sequences,
                   cudaStream_t stream);
  // The event of the latest upload.
  cudaEvent_t uploaded() const { return uploaded_; }

  // The sequence of a chunk, and how it is carried out; null for a decode step.
  const SequenceStep* chunk() const { return is_chunk_ ? &chunk_ : nullptr; }
  const AdmissionStep& chunk_admission() const { return packed_.step; }
  const int* chunk_runs() const { return runs_.on_device; }
  DeviceSchedule chunk_schedule() const {
    return {items_.on_device, first_item_.on_device,
            static_cast<int>(schedule_.first_item.size()) - 1};
  }

  const int32_t* tokens() const { return tokens_.on_device; }
  const DecodeSequence* decodes() const { return decodes_.on_device; }
  // By sequence: its session's cache slot, and the last of its rows. Negative slots for sequences
  // without rows.
  const int* kept_slots() const { return kept_slots_.on_device; }
  const int* last_rows() const { return last_rows_.on_device; }
  // The same, also of sequences without rows.
  const int* cache_slots() const { return cache_slots_.on_device; }
  int sequence_count() const { return sequence_count_; }

 private:
  template <typename T>
  struct Array {
    T* on_host = nullptr;
    T* on_device = nullptr;
    int64_t capacity = 0;
  };

  CudaStep() = default;
  template <typename T>
  void Place(Array<T>& array, int64_t capacity);
  void LoadChunk(const SequenceStep& sequence);
  void LoadSequences(absl::Span<const SequenceStep> sequences);

  int query_heads_ = 0;
  int kv_heads_ = 0;
  int blocks_ = 0;
  int64_t bytes_ = 0;
  int64_t decode_bytes_ = 0;  // of the arrays that every step uploads, the first
  PinnedMemory host_;
  DeviceMemory device_;
  cudaEvent_t uploaded_ = nullptr;

  Array<int32_t> tokens_;
  Array<int> kept_slots_;
  Array<int> last_rows_;
  Array<int> cache_slots_;
  Array<DecodeSequence> decodes_;
  Array<int> runs_;
  Array<PrefillItem> items_;
  Array<int> first_item_;

  int sequence_count_ = 0;
  bool is_chunk_ = false;
  SequenceStep chunk_;
  PackedAdmission packed_;
  PrefillShape scheduled_;  // what schedule_ is for
  PrefillSchedule schedule_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_CUDA_STEP_H_
