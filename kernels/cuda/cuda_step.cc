#include "kernels/cuda/cuda_step.h"

#include <algorithm>
#include <cassert>

namespace weir {
namespace {

constexpr int64_t kAlignment = 256;

}  // namespace

template <typename T>
void CudaStep::Place(Array<T>& array, int64_t capacity) {
  array.capacity = capacity;
  if (host_.bytes() > 0) {
    array.on_host = reinterpret_cast<T*>(host_.as<std::byte>() + bytes_);
    array.on_device = reinterpret_cast<T*>(device_.as<std::byte>() + bytes_);
  }
  bytes_ += (capacity * int64_t{sizeof(T)} + kAlignment - 1) / kAlignment * kAlignment;
}

absl::StatusOr<std::unique_ptr<CudaStep>> CudaStep::Allocate(const KvShape& shape, int rows,
                                                             int sequences, int blocks) {
  std::unique_ptr<CudaStep> step(new CudaStep());
  step->query_heads_ = shape.query_heads;
  step->kv_heads_ = shape.kv_heads;
  step->blocks_ = blocks;
  const int64_t row_blocks = (int64_t{rows} + kBlockRows - 1) / kBlockRows * shape.query_heads;
  const auto place = [&] {
    step->bytes_ = 0;
    step->Place(step->tokens_, rows);
    step->Place(step->kept_slots_, sequences);
    step->Place(step->last_rows_, sequences);
    step->Place(step->cache_slots_, sequences);
    step->Place(step->decodes_, sequences);
    step->decode_bytes_ = step->bytes_;
    step->Place(step->runs_, AdmissionStep::kMostRings * (int64_t{rows} + 2));
    step->Place(step->items_, row_blocks);
    step->Place(step->first_item_, blocks + 1);
  };
  place();  // for the size
  absl::StatusOr<PinnedMemory> host = AllocatePinned(step->bytes_, "a step's host memory");
  if (!host.ok()) return host.status();
  absl::StatusOr<DeviceMemory> device = AllocateDevice(step->bytes_, "a step's tokens and plans");
  if (!device.ok()) return device.status();
  step->host_ = *std::move(host);
  step->device_ = *std::move(device);
  place();
  const cudaError_t error = cudaEventCreateWithFlags(&step->uploaded_, cudaEventDisableTiming);
  if (error != cudaSuccess) return CudaStatus(error, "preparing a step");
  return step;
}

CudaStep::~CudaStep() {
  if (uploaded_ != nullptr) (void)cudaEventDestroy(uploaded_);
}

cudaError_t CudaStep::Load(absl::Span<const int32_t> tokens,
                           absl::Span<const SequenceStep> sequences, cudaStream_t stream) {
  assert(static_cast<int64_t>(tokens.size()) <= tokens_.capacity);
  assert(static_cast<int64_t>(sequences.size()) <= decodes_.capacity);

  std::copy(tokens.begin(), tokens.end(), tokens_.on_host);
  std::fill(tokens_.on_host + tokens.size(), tokens_.on_host + tokens_.capacity, 0);
  LoadSequences(sequences);
  is_chunk_ = sequences.size() == 1 && sequences[0].rows > 1;
  int64_t bytes = decode_bytes_;
  if (is_chunk_) {
    LoadChunk(sequences[0]);
    bytes = bytes_;
  }
  cudaError_t error =
      cudaMemcpyAsync(device_.as<void>(), host_.as<void>(), bytes, cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) error = cudaEventRecord(uploaded_, stream);
  return error;
}

void CudaStep::LoadSequences(absl::Span<const SequenceStep> sequences) {
  sequence_count_ = static_cast<int>(sequences.size());
  for (int64_t i = 0; i < decodes_.capacity; ++i) {
    const bool exists = i < sequence_count_;
    const bool has_rows = exists && sequences[i].rows > 0;
    cache_slots_.on_host[i] = exists ? sequences[i].cache_slot : 0;
    kept_slots_.on_host[i] = has_rows ? sequences[i].cache_slot : -1;
    last_rows_.on_host[i] = has_rows ? sequences[i].first_row + sequences[i].rows - 1 : -1;
    if (exists && sequences[i].rows <= 1) {
      assert(!has_rows || sequences[i].first_row == i);
      decodes_.on_host[i] = PackDecode(sequences[i]);
    } else {
      decodes_.on_host[i].active = false;
    }
  }
}

void CudaStep::LoadChunk(const SequenceStep& sequence) {
  assert(sequence.first_row == 0);
  chunk_ = sequence;
  packed_ = PackAdmission(sequence);
  assert(static_cast<int64_t>(packed_.runs.size()) <= runs_.capacity);
  std::copy(packed_.runs.begin(), packed_.runs.end(), runs_.on_host);

  PrefillShape shape = {
      .rows = sequence.rows, .cached = 0, .query_heads = query_heads_, .kv_heads = kv_heads_};
  for (const KeySegment& segment : sequence.segments) shape.cached += segment.slot_count;
  // The same from chunk to chunk once the cache is full.
  if (shape.rows != scheduled_.rows || shape.cached != scheduled_.cached) {
    schedule_ = SchedulePrefill(shape, blocks_);
    scheduled_ = shape;
  }
  assert(static_cast<int64_t>(schedule_.items.size()) <= items_.capacity);
  std::copy(schedule_.items.begin(), schedule_.items.end(), items_.on_host);
  std::copy(schedule_.first_item.begin(), schedule_.first_item.end(), first_item_.on_host);
}

}  // namespace weir
