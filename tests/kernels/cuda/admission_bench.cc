// Times the admission of full chunks to a full cache, one layer. One JSON object a line.
//
//   admission_bench W:N:C ...    slots, sub-caches and rows of the chunk (8 KV heads of 128)

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "kernels/cuda/prefill/admission.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;
constexpr int kRuns = 15;

void Bench(const CascadeConfig& cascade) {
  const int slots = cascade.total_slots();
  const int rows = cascade.stride;
  const size_t head_slots = static_cast<size_t>(kKvHeads) * slots;
  DeviceArray<__nv_bfloat16> keys(head_slots * kHeadDim), values(head_slots * kHeadDim);
  DeviceArray<float> scores(head_slots);
  DeviceArray<int64_t> tokens(head_slots);
  DeviceArray<unsigned long long> swaps(cascade.sub_caches);
  DeviceArray<int> sources(static_cast<size_t>(kKvHeads) * (cascade.sub_caches + 1) * (rows + 1));
  DeviceArray<AdmissionArrival> arrivals(static_cast<size_t>(kKvHeads) * 2 * rows);
  const DeviceArray<float> table(
      std::vector<float>(static_cast<size_t>(slots + 1) * kHeadDim / 2, 0.7f));
  const int64_t row_stride = (32 + 2 * kKvHeads) * kHeadDim;
  const DeviceArray<__nv_bfloat16> qkv(
      std::vector<__nv_bfloat16>(rows * row_stride, __float2bfloat16(0.5f)));
  std::mt19937 random(5);
  std::vector<float> row_scores(static_cast<size_t>(kKvHeads) * rows);
  for (float& score : row_scores) score = static_cast<float>(random() % 100000);
  const DeviceArray<float> device_row_scores(row_scores);
  swaps.FillBytes(0);
  scores.FillBytes(0);

  cudaEvent_t begin, end;
  CheckCuda(cudaEventCreate(&begin));
  CheckCuda(cudaEventCreate(&end));
  KvCache plan(0, cascade);
  const int fill = slots / rows + 2;
  std::vector<float> times;
  for (int i = 0; i < fill + kRuns; ++i) {
    const SequenceStep step = plan.Plan(0, rows);
    const PackedAdmission packed = PackAdmission(step);
    const DeviceArray<int> runs(packed.runs);
    CheckCuda(cudaEventRecord(begin));
    CheckCuda(LaunchAdmission(
        packed.step,
        {kKvHeads, kHeadDim, slots, keys.data(), values.data(), scores.data(), tokens.data()},
        {qkv.data() + 32 * kHeadDim, qkv.data() + (32 + kKvHeads) * kHeadDim, row_stride,
         device_row_scores.data(), rows},
        {table.data(), table.data()}, {runs.data(), sources.data(), arrivals.data(), swaps.data()},
        nullptr));
    CheckCuda(cudaEventRecord(end));
    CheckCuda(cudaEventSynchronize(end));
    float ms;
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
    if (i >= fill) times.push_back(ms);
    plan.Commit(step);
  }
  std::sort(times.begin(), times.end());
  std::printf(
      "{\"kernel\": \"admission\", \"slots\": %d, \"sub_caches\": %d, \"chunk\": %d, \"ms\": "
      "%.4f}\n",
      cascade.slots, cascade.sub_caches, rows, times[times.size() / 2]);
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
