// Times everything that one attention layer does with a chunk besides its projections, over a
// session whose cache is full: rotations, attention, scores, admission. One JSON object a line.
//
//   chunk_layer_bench W:N:C ...    slots, sub-caches, rows (32 query heads, 8 KV heads of 128)

#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "kernels/cuda/admission.h"
#include "kernels/cuda/chunk_attention.h"
#include "kernels/cuda/chunk_attention_sm90.h"
#include "kernels/cuda/chunk_preparation.h"
#include "kernels/cuda/prefill_schedule.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kQueryHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;
constexpr int kTimedChunks = 32;

std::vector<__nv_bfloat16> Normals(int64_t count) {
  std::minstd_rand random(9);
  std::vector<__nv_bfloat16> values(count);
  for (__nv_bfloat16& value : values) {
    float sum = -2.0f;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(random()) / 2147483648.0f;
    value = __float2bfloat16(sum * 1.732f);
  }
  return values;
}

class Layer {
 public:
  explicit Layer(const CascadeConfig& cascade)
      : cascade_(cascade),
        plan_(0, cascade),
        slots_(cascade.total_slots()),
        rows_(cascade.stride),
        keys_(HeadSlots() * kHeadDim),
        values_(HeadSlots() * kHeadDim),
        scores_(HeadSlots()),
        tokens_(HeadSlots()),
        qkv_(Normals(rows_ * kQkvStride)),
        rotated_(rows_ * kRotatedStride),
        rotated_cache_(HeadSlots() * kHeadDim),
        own_norms_(kKvHeads * (rows_ / kNormTile + 1)),
        cached_norms_(kKvHeads * (slots_ / kNormTile + 1)),
        out_(rows_ * int64_t{kQueryHeads} * kHeadDim),
        log2_normalizers_(int64_t{kQueryHeads} * rows_),
        column_sums_(int64_t{kQueryHeads} * (slots_ + rows_)),
        row_scores_(int64_t{kKvHeads} * rows_),
        swaps_(cascade.sub_caches),
        sources_(static_cast<size_t>(kKvHeads) * (cascade.sub_caches + 1) * (rows_ + 1)),
        arrivals_(static_cast<size_t>(kKvHeads) * 2 * rows_),
        runs_(static_cast<size_t>(cascade.sub_caches) * (rows_ + 2)),
        cos_(Table([](double x) { return std::cos(x); })),
        sin_(Table([](double x) { return std::sin(x); })) {
    CheckCuda(cudaDeviceGetAttribute(&blocks_, cudaDevAttrMultiProcessorCount, 0));
  }

  int fill_chunks() const { return slots_ / rows_ + 2; }

  void RunChunk(const DeviceSchedule& schedule, ColumnSumMode mode) {
    const SequenceStep step = plan_.Plan(0, rows_);
    const PackedAdmission admission = PackAdmission(step);
    CheckCuda(cudaMemcpyAsync(runs_.data(), admission.runs.data(),
                              admission.runs.size() * sizeof(int), cudaMemcpyHostToDevice));
    const int cached = plan_.filled_slots();
    const DeviceRope rope = {cos_.data(), sin_.data()};
    CheckCuda(LaunchRotateRows({rows_, kQueryHeads, kKvHeads, kHeadDim, qkv_.data(), kQkvStride,
                                rotated_.data(), own_norms_.data()},
                               rope, nullptr));
    CachedKeys cached_keys = {};
    cached_keys.cached = cached;
    cached_keys.kv_heads = kKvHeads;
    cached_keys.head_dim = kHeadDim;
    cached_keys.keys = keys_.data();
    cached_keys.head_stride = int64_t{slots_} * kHeadDim;
    cached_keys.rotated = rotated_cache_.data();
    cached_keys.key_norms = cached_norms_.data();
    cached_keys.segment_count = static_cast<int>(step.segments.size());
    std::copy(step.segments.begin(), step.segments.end(), cached_keys.segments);
    CheckCuda(LaunchRotateCachedKeys(cached_keys, rope, nullptr));
    CheckCuda(cudaMemsetAsync(column_sums_.data(), 0, column_sums_.bytes()));
    const __nv_bfloat16* own_values = qkv_.data() + (kQueryHeads + kKvHeads) * kHeadDim;
    const ChunkAttention attention = {
        .query_heads = kQueryHeads,
        .kv_heads = kKvHeads,
        .head_dim = kHeadDim,
        .rows = rows_,
        .cached = cached,
        .log2_beta = static_cast<float>(std::log2(cascade_.beta)),
        .queries = {rotated_.data(), kRotatedStride, kHeadDim},
        .cached_keys = {rotated_cache_.data(), kHeadDim, int64_t{cached} * kHeadDim},
        .cached_values = {values_.data(), kHeadDim, int64_t{slots_} * kHeadDim},
        .own_keys = {rotated_.data() + kQueryHeads * kHeadDim, kRotatedStride, kHeadDim},
        .own_values = {own_values, kQkvStride, kHeadDim},
        .cached_key_norms = cached_norms_.data(),
        .own_key_norms = own_norms_.data(),
        .out = out_.data(),
        .out_stride = int64_t{kQueryHeads} * kHeadDim,
        .log2_normalizers = log2_normalizers_.data(),
        .column_sums = column_sums_.data(),
    };
    CheckCuda(LaunchHopperChunkAttention(attention, schedule, mode, nullptr));
    CheckCuda(LaunchScoreUpdate({rows_, cached, kQueryHeads, kKvHeads, cascade_.head_reduction,
                                 std::pow(cascade_.beta, rows_), column_sums_.data(),
                                 scores_.data(), slots_, row_scores_.data(), rows_},
                                nullptr));
    CheckCuda(LaunchAdmission(
        admission.step,
        {kKvHeads, kHeadDim, slots_, keys_.data(), values_.data(), scores_.data(), tokens_.data()},
        {qkv_.data() + kQueryHeads * kHeadDim, own_values, kQkvStride, row_scores_.data(), rows_},
        rope, {runs_.data(), sources_.data(), arrivals_.data(), swaps_.data()}, nullptr));
    plan_.Commit(step);
  }

  PrefillSchedule Schedule() const {
    return SchedulePrefill({rows_, plan_.filled_slots(), kQueryHeads, kKvHeads}, blocks_);
  }

 private:
  static constexpr int64_t kQkvStride = (kQueryHeads + 2 * kKvHeads) * kHeadDim;
  static constexpr int64_t kRotatedStride = (kQueryHeads + kKvHeads) * kHeadDim;

  size_t HeadSlots() const { return static_cast<size_t>(kKvHeads) * slots_; }

  template <typename Function>
  std::vector<float> Table(Function function) const {
    std::vector<float> table;
    const int rotations = slots_ + rows_ + cascade_.ring_slots();
    for (int rotation = 0; rotation < rotations; ++rotation) {
      for (int i = 0; i < kHeadDim / 2; ++i) {
        table.push_back(
            static_cast<float>(function(rotation * std::pow(500000.0, -2.0 * i / kHeadDim))));
      }
    }
    return table;
  }

  CascadeConfig cascade_;
  KvCache plan_;
  int slots_;
  int rows_;
  int blocks_ = 0;
  DeviceArray<__nv_bfloat16> keys_, values_;
  DeviceArray<float> scores_;
  DeviceArray<int64_t> tokens_;
  DeviceArray<__nv_bfloat16> qkv_, rotated_, rotated_cache_;
  DeviceArray<float> own_norms_, cached_norms_;
  DeviceArray<__nv_bfloat16> out_;
  DeviceArray<float> log2_normalizers_;
  DeviceArray<unsigned long long> column_sums_;
  DeviceArray<float> row_scores_;
  DeviceArray<unsigned long long> swaps_;
  DeviceArray<int> sources_;
  DeviceArray<AdmissionArrival> arrivals_;
  DeviceArray<int> runs_;
  DeviceArray<float> cos_, sin_;
};

void Bench(const CascadeConfig& cascade) {
  struct Mode {
    const char* name;
    ColumnSumMode mode;
  };
  for (const Mode& mode :
       {Mode{"fast", ColumnSumMode::kFast}, Mode{"exact", ColumnSumMode::kExact}}) {
    Layer layer(cascade);
    const auto run = [&](int chunks) {
      // The same for all chunks once the cache is full.
      const PrefillSchedule schedule = layer.Schedule();
      const DeviceArray<PrefillItem> items(schedule.items);
      const DeviceArray<int> first_item(schedule.first_item);
      const DeviceSchedule device = {items.data(), first_item.data(),
                                     static_cast<int>(schedule.first_item.size()) - 1};
      for (int i = 0; i < chunks; ++i) layer.RunChunk(device, mode.mode);
      CheckCuda(cudaDeviceSynchronize());
    };
    for (int i = 0; i < layer.fill_chunks(); ++i) run(1);
    run(3);
    cudaEvent_t begin, end;
    CheckCuda(cudaEventCreate(&begin));
    CheckCuda(cudaEventCreate(&end));
    CheckCuda(cudaEventRecord(begin));
    run(kTimedChunks);
    CheckCuda(cudaEventRecord(end));
    CheckCuda(cudaEventSynchronize(end));
    float ms;
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
    const double chunk_ms = ms / kTimedChunks;
    std::printf(
        "{\"kernel\": \"chunk_layer\", \"scores\": \"%s\", \"slots\": %d, \"sub_caches\": %d, "
        "\"chunk\": %d, \"ms\": %.4f, \"seconds_per_1048576_tokens\": %.3f}\n",
        mode.name, cascade.slots, cascade.sub_caches, cascade.stride, chunk_ms,
        chunk_ms * 1048576 / cascade.stride / 1e3);
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    CascadeConfig cascade;
    if (std::sscanf(argv[i], "%d:%d:%d", &cascade.slots, &cascade.sub_caches, &cascade.stride) !=
        3) {
      std::fprintf(stderr, "What is %s? Give W:N:C.\n", argv[i]);
      return 2;
    }
    Bench(cascade);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
