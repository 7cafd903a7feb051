// Times attention of a chunk. One JSON object a line; ms is the median. TFLOP/s count useful work:
// 4 * head_dim * query_heads * rows * (cached + (rows + 1) / 2).
//
//   chunk_attention_bench W:C ...    cached keys and rows of the chunk (64 sinks are added to W)
//   with --heads=, --kv-heads=, --head-dim=, --runs=

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/chunk_attention_sm90.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

struct Settings {
  int heads = 32;
  int kv_heads = 8;
  int head_dim = 128;
  int runs = 15;
};

// About normal, with deviation 1.
std::vector<__nv_bfloat16> RandomValues(int64_t count, uint64_t seed) {
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  std::vector<__nv_bfloat16> values(count);
  for (__nv_bfloat16& value : values) {
    float sum = 0.0f;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(state >> (16 * i) & 0xffff) / 65536.0f;
    value = __float2bfloat16((sum - 2.0f) * 1.732f);
  }
  return values;
}

template <typename Function>
double MedianMs(int runs, Function function) {
  cudaEvent_t begin, end;
  CheckCuda(cudaEventCreate(&begin));
  CheckCuda(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) function();
  std::vector<float> times(runs);
  for (float& ms : times) {
    CheckCuda(cudaEventRecord(begin));
    function();
    CheckCuda(cudaEventRecord(end));
    CheckCuda(cudaEventSynchronize(end));
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
  }
  std::sort(times.begin(), times.end());
  return times[runs / 2];
}

void Bench(const Settings& settings, int window, int rows) {
  const int cached = window + 64;
  const int d = settings.head_dim;
  const int64_t row_stride = int64_t{settings.heads + 2 * settings.kv_heads} * d;
  const DeviceArray<__nv_bfloat16> cached_keys(
      RandomValues(int64_t{settings.kv_heads} * cached * d, 1));
  const DeviceArray<__nv_bfloat16> cached_values(
      RandomValues(int64_t{settings.kv_heads} * cached * d, 2));
  const DeviceArray<__nv_bfloat16> qkv(RandomValues(rows * row_stride, 3));
  // Of any key here, with room to spare.
  const float norm = 2.0f * std::sqrt(static_cast<float>(d));
  const DeviceArray<float> key_norms(
      std::vector<float>(int64_t{settings.kv_heads} * (cached + rows), norm));
  DeviceArray<__nv_bfloat16> out(int64_t{rows} * settings.heads * d);
  DeviceArray<float> log2_normalizers(int64_t{settings.heads} * rows);
  DeviceArray<unsigned long long> column_sums(int64_t{settings.heads} * (cached + rows));
  column_sums.FillBytes(0);
  const ChunkAttention attention = {
      .query_heads = settings.heads,
      .kv_heads = settings.kv_heads,
      .head_dim = d,
      .rows = rows,
      .cached = cached,
      .log2_beta = static_cast<float>(std::log2(0.9999999)),
      .queries = {qkv.data(), row_stride, d},
      .cached_keys = {cached_keys.data(), d, int64_t{cached} * d},
      .cached_values = {cached_values.data(), d, int64_t{cached} * d},
      .own_keys = {qkv.data() + settings.heads * d, row_stride, d},
      .own_values = {qkv.data() + (settings.heads + settings.kv_heads) * d, row_stride, d},
      .cached_key_norms = key_norms.data(),
      .own_key_norms = key_norms.data(),
      .out = out.data(),
      .out_stride = int64_t{settings.heads} * d,
      .log2_normalizers = log2_normalizers.data(),
      .column_sums = column_sums.data(),
  };
  int blocks = 0;
  CheckCuda(cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, 0));
  const PrefillSchedule schedule =
      SchedulePrefill({rows, cached, settings.heads, settings.kv_heads}, blocks);
  const DeviceArray<PrefillItem> items(schedule.items);
  const DeviceArray<int> first_item(schedule.first_item);
  const DeviceSchedule device_schedule = {items.data(), first_item.data(),
                                          static_cast<int>(schedule.first_item.size()) - 1};
  const double work = 4.0 * d * settings.heads * rows * (cached + (rows + 1) / 2.0);
  struct Mode {
    const char* name;
    ColumnSumMode mode;
  };
  for (const Mode& mode : {Mode{"none", ColumnSumMode::kNone}, Mode{"fast", ColumnSumMode::kFast},
                           Mode{"exact", ColumnSumMode::kExact}}) {
    const double ms = MedianMs(settings.runs, [&] {
      CheckCuda(LaunchHopperChunkAttention(attention, device_schedule, mode.mode, nullptr));
    });
    std::printf(
        "{\"kernel\": \"weir\", \"scores\": \"%s\", \"window\": %d, \"chunk\": %d, "
        "\"head_dim\": %d, \"ms\": %.4f, \"tflops\": %.1f}\n",
        mode.name, window, rows, d, ms, work / ms / 1e9);
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    int window, rows;
    if (std::sscanf(argv[i], "--heads=%d", &settings.heads) == 1 ||
        std::sscanf(argv[i], "--kv-heads=%d", &settings.kv_heads) == 1 ||
        std::sscanf(argv[i], "--head-dim=%d", &settings.head_dim) == 1 ||
        std::sscanf(argv[i], "--runs=%d", &settings.runs) == 1) {
      continue;
    }
    if (std::sscanf(argv[i], "%d:%d", &window, &rows) != 2) {
      std::fprintf(stderr, "What is %s? Give W:C, the window and the chunk.\n", argv[i]);
      return 2;
    }
    Bench(settings, window, rows);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
