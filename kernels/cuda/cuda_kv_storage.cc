#include "kernels/cuda/cuda_kv_storage.h"

#include <cassert>
#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/prefill/chunk_attention.h"

namespace weir {
namespace {

// Lays out arrays in one block of memory: first asked for their sizes, then placed.
class Arena {
 public:
  template <typename T>
  void Add(T*& array, int64_t count) {
    int64_t bytes = 0;
    if (count < 0 || __builtin_mul_overflow(count, int64_t{sizeof(T)}, &bytes) ||
        __builtin_add_overflow(bytes_, (bytes + kAlignment - 1) / kAlignment * kAlignment,
                               &bytes_)) {
      overflow_ = true;
      return;
    }
    places_.push_back({reinterpret_cast<void**>(&array),
                       bytes_ - (bytes + kAlignment - 1) / kAlignment * kAlignment});
  }
  // Negative if it overflowed.
  int64_t bytes() const { return overflow_ ? -1 : bytes_; }
  void Place(std::byte* memory) const {
    for (const auto& [array, offset] : places_) *array = memory + offset;
  }

 private:
  static constexpr int64_t kAlignment = 256;
  struct Item {
    void** array;
    int64_t offset;
  };
  std::vector<Item> places_;
  int64_t bytes_ = 0;
  bool overflow_ = false;
};

int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (product < 0 || __builtin_mul_overflow(product, factor, &product)) return -1;
  }
  return product;
}

int64_t NormTiles(int64_t keys) { return (keys + kNormTile - 1) / kNormTile; }

}  // namespace

absl::StatusOr<std::unique_ptr<CudaKvStorage>> CudaKvStorage::Allocate(const KvShape& shape,
                                                                       const RopeTable& rope,
                                                                       int decode_rows,
                                                                       cudaStream_t stream) {
  assert(shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0);
  assert(rope.head_dim == shape.head_dim);
  std::unique_ptr<CudaKvStorage> storage(new CudaKvStorage(shape, stream));
  if (absl::Status status = storage->AllocateSlots(); !status.ok()) return status;
  if (absl::Status status = storage->AllocateScratch(rope, decode_rows); !status.ok()) {
    return status;
  }
  return storage;
}

absl::Status CudaKvStorage::AllocateSlots() {
  const int64_t slots = Product({shape_.sessions, shape_.layers, shape_.kv_heads, shape_.slots});
  Arena arena;
  arena.Add(keys_, Product({slots, shape_.head_dim}));
  arena.Add(values_, Product({slots, shape_.head_dim}));
  arena.Add(tokens_, slots);
  arena.Add(scores_, slots);
  absl::StatusOr<DeviceMemory> memory =
      AllocateDevice(arena.bytes(), absl::StrCat("the KV caches of ", shape_.sessions,
                                                 " sessions with ", shape_.slots, " slots each"));
  if (!memory.ok()) return memory.status();
  slots_memory_ = *std::move(memory);
  arena.Place(slots_memory_.as<std::byte>());
  return absl::OkStatus();
}

absl::Status CudaKvStorage::AllocateScratch(const RopeTable& rope, int decode_rows) {
  const int64_t query_heads = shape_.query_heads;
  const int64_t kv_heads = shape_.kv_heads;
  const int64_t stride = shape_.max_stride;
  const int64_t splits = DecodeAttention::Splits(shape_.slots);
  const int64_t group = query_heads / kv_heads;
  constexpr int64_t kRings = AdmissionStep::kMostRings;
  const int64_t angles = static_cast<int64_t>(rope.cos.size());
  float* cos = nullptr;
  float* sin = nullptr;
  Arena arena;
  arena.Add(cos, angles);
  arena.Add(sin, angles);
  arena.Add(swaps_, kRings);
  arena.Add(chunk_.rotated_rows, stride * (query_heads + kv_heads) * shape_.head_dim);
  arena.Add(chunk_.rotated_keys, kv_heads * shape_.slots * shape_.head_dim);
  arena.Add(chunk_.own_key_norms, kv_heads * NormTiles(stride));
  arena.Add(chunk_.cached_key_norms, kv_heads * NormTiles(shape_.slots));
  arena.Add(chunk_.log2_normalizers, query_heads * stride);
  arena.Add(chunk_.column_sums, query_heads * (shape_.slots + stride));
  // A ring has at most an entry for each row that is new, and one that may be challenged.
  arena.Add(chunk_.sources, kv_heads * ((kRings + 1) * stride + kRings));
  arena.Add(chunk_.arrivals, kv_heads * 2 * stride);
  arena.Add(decode_.logits, Product({decode_rows, query_heads, shape_.slots + 1}));
  arena.Add(decode_.partial_outputs,
            Product({decode_rows, kv_heads, splits, group, shape_.head_dim}));
  arena.Add(decode_.partial_softmaxes, Product({decode_rows, kv_heads, splits, group}));
  arena.Add(decode_.own_rows, Product({decode_rows, kv_heads, 2, shape_.head_dim}));
  absl::StatusOr<DeviceMemory> memory =
      AllocateDevice(arena.bytes(), absl::StrCat("scratch memory for chunks of ", stride,
                                                 " tokens and steps of ", decode_rows, " rows"));
  if (!memory.ok()) return memory.status();
  scratch_memory_ = *std::move(memory);
  arena.Place(scratch_memory_.as<std::byte>());
  rope_ = {cos, sin};

  const auto copy = [](float* to, const std::vector<float>& from) {
    return CopyToDevice(to, from.data(), from.size() * sizeof(float));
  };
  cudaError_t error = copy(cos, rope.cos);
  if (error == cudaSuccess) error = copy(sin, rope.sin);
  return CudaStatus(error, "preparing the KV caches");
}

int64_t CudaKvStorage::bytes_per_session() const {
  const int64_t logits = int64_t{shape_.query_heads} * (shape_.slots + 1);
  const int64_t results =
      int64_t{shape_.query_heads} * DecodeAttention::Splits(shape_.slots) * (shape_.head_dim + 2);
  const int64_t own_rows = int64_t{shape_.kv_heads} * 2 * shape_.head_dim;
  return slots_memory_.bytes() / shape_.sessions +
         (logits + results) * static_cast<int64_t>(sizeof(float)) +
         own_rows * static_cast<int64_t>(sizeof(__nv_bfloat16));
}

LayerSlots CudaKvStorage::layer_slots(int cache_slot, int layer) const {
  assert(cache_slot >= 0 && cache_slot < shape_.sessions);
  assert(layer >= 0 && layer < shape_.layers);
  const int64_t first =
      (int64_t{cache_slot} * shape_.layers + layer) * shape_.kv_heads * shape_.slots;
  return {.kv_heads = shape_.kv_heads,
          .head_dim = shape_.head_dim,
          .slots = shape_.slots,
          .keys = keys_ + first * shape_.head_dim,
          .values = values_ + first * shape_.head_dim,
          .scores = scores_ + first,
          .tokens = tokens_ + first};
}

DecodeAttention CudaKvStorage::decode_attention(int layer) const {
  DecodeAttention attention = {};
  attention.query_heads = shape_.query_heads;
  attention.kv_heads = shape_.kv_heads;
  attention.head_dim = shape_.head_dim;
  attention.layer = layer;
  attention.layers = shape_.layers;
  attention.slots = shape_.slots;
  attention.keys = keys_;
  attention.values = values_;
  attention.scores = scores_;
  attention.tokens = tokens_;
  attention.swaps = swaps_;
  attention.rope = rope_;
  attention.scratch = decode_;
  return attention;
}

std::vector<int64_t> CudaKvStorage::swaps() const {
  std::vector<unsigned long long> counts(AdmissionStep::kMostRings);
  cudaError_t error = cudaMemcpyAsync(counts.data(), swaps_, counts.size() * sizeof(counts[0]),
                                      cudaMemcpyDeviceToHost, stream_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
  if (error != cudaSuccess) return {};  // what is wrong shows at the next Synchronize
  return {counts.begin(), counts.end()};
}

SlotContents CudaKvStorage::Read(int cache_slot, int layer, int kv_head) const {
  const LayerSlots slots = layer_slots(cache_slot, layer);
  const int64_t first = int64_t{kv_head} * shape_.slots;
  SlotContents contents;
  contents.tokens.resize(shape_.slots);
  contents.scores.resize(shape_.slots);
  cudaError_t error =
      cudaMemcpyAsync(contents.tokens.data(), slots.tokens + first, shape_.slots * sizeof(int64_t),
                      cudaMemcpyDeviceToHost, stream_);
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(contents.scores.data(), slots.scores + first,
                            shape_.slots * sizeof(float), cudaMemcpyDeviceToHost, stream_);
  }
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
  (void)error;  // it is sticky, and shows at the next Synchronize
  return contents;
}

}  // namespace weir
