// Times single operations of the CPU backend at SmolLM2-135M's shapes:
//
//   bazel run //tests/bench:kernels_bench -- --benchmark_filter=MatMul
//
// The arguments are rows (and threads). Rates are of useful work: weights count as stored, products
// as 2 operations per weight and row; attention counts its two products.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "kernels/backend.h"
#include "tests/kernels/cpu/test_tensors.h"
#include "tests/testing/encode_weights.h"

namespace weir {
namespace {

using benchmark::Counter;

constexpr int kLayers = 30;

// Different matrices of one shape, so that their weights do not stay in the processor's cache.
std::vector<std::unique_ptr<Matrix>> RandomMatrices(Backend& backend, int count, WeightType type,
                                                    int64_t rows, int64_t cols) {
  std::mt19937 random(1);
  std::vector<std::string> bytes;
  for (int i = 0; i < 16; ++i) bytes.push_back(EncodeWeights(type, RandomFloats(random, cols)));
  std::vector<WeightRow> file(rows);
  for (int64_t row = 0; row < rows; ++row) {
    file[row] = {reinterpret_cast<const std::byte*>(bytes[row % 16].data()), type};
  }
  std::vector<std::unique_ptr<Matrix>> matrices;
  for (int i = 0; i < count; ++i) matrices.push_back(backend.LoadMatrix(file, cols).value());
  return matrices;
}

void MatMul(benchmark::State& state, WeightType type, int copies, int64_t outputs, int64_t cols) {
  const int rows = static_cast<int>(state.range(0));
  const std::unique_ptr<Backend> backend = MakeCpuBackend(static_cast<int>(state.range(1)));
  const auto matrices = RandomMatrices(*backend, copies, type, outputs, cols);
  std::mt19937 random(2);
  const Tensor x = MakeTensor(*backend, rows, cols, RandomFloats(random, rows * cols));
  const Tensor out = backend->AllocateTensor(ElementType::kFloat32, rows, outputs).value();
  for (auto _ : state) {
    for (const auto& matrix : matrices) backend->MatMul({{0, rows}}, x, *matrix, out);
  }
  const double products = static_cast<double>(copies) * outputs * cols;
  state.counters["flop"] = Counter(2 * products * rows, Counter::kIsIterationInvariantRate);
  state.counters["bytes"] = Counter(static_cast<double>(copies) * matrices[0]->bytes(),
                                    Counter::kIsIterationInvariantRate);
}

void Rows(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgsProduct({{1, 4, 16, 256}, {1, 2}})
      ->Unit(benchmark::kMillisecond)
      ->MeasureProcessCPUTime()
      ->UseRealTime();
}

BENCHMARK_CAPTURE(MatMul, qkv, WeightType::kQ4_1, kLayers, 960, 576)->Apply(Rows);
BENCHMARK_CAPTURE(MatMul, output, WeightType::kQ4_1, kLayers, 576, 576)->Apply(Rows);
BENCHMARK_CAPTURE(MatMul, gate_up, WeightType::kQ4_1, kLayers, 3072, 576)->Apply(Rows);
BENCHMARK_CAPTURE(MatMul, down, WeightType::kQ4_1, kLayers, 576, 1536)->Apply(Rows);
BENCHMARK_CAPTURE(MatMul, logits, WeightType::kQ8_0, 1, 49152, 576)->Apply(Rows);

// One full session of 1088 slots; all layers, as a step does.
struct FullSession {
  explicit FullSession(int threads, int rows) : backend(MakeCpuBackend(threads)) {
    kv = backend
             ->AllocateKv({.layers = kLayers,
                           .kv_heads = 3,
                           .query_heads = 9,
                           .head_dim = 64,
                           .sessions = 1,
                           .slots = cascade.total_slots(),
                           .max_step_rows = 256,
                           .max_stride = 256},
                          MakeTestRopeTable(64, static_cast<int>(RotationsNeeded(cascade))))
             .value();
    std::mt19937 random(3);
    qkv = MakeTensor(*backend, 256, 960, RandomFloats(random, 256 * 960));
    out = backend->AllocateTensor(ElementType::kFloat32, 256, 576).value();
    row_scores = backend->AllocateTensor(ElementType::kFloat32, 3, 256).value();
    for (int chunk = 0; chunk < 6; ++chunk) Run(256);
    qkv.rows = out.rows = rows;
  }

  void Attend(const DeviceStep& step, int layer) {
    backend->Attend(*kv, layer, step, qkv, out, row_scores);
  }
  void Admit(const DeviceStep& step, int layer) {
    backend->Admit(*kv, layer, step, qkv, row_scores);
  }
  void Run(int rows) {
    const SequenceStep sequence = cache.Plan(0, rows);
    const std::unique_ptr<DeviceStep> step = MakeStep(*backend, {sequence});
    for (int layer = 0; layer < kLayers; ++layer) {
      Attend(*step, layer);
      Admit(*step, layer);
    }
    cache.Commit(sequence);
  }

  CascadeConfig cascade;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<KvStorage> kv;
  KvCache cache{0, cascade};
  Tensor qkv;
  Tensor out;
  Tensor row_scores;
};

void Attend(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  FullSession session(static_cast<int>(state.range(1)), rows);
  const std::unique_ptr<DeviceStep> step =
      MakeStep(*session.backend, {session.cache.Plan(0, rows)});
  for (auto _ : state) {
    for (int layer = 0; layer < kLayers; ++layer) session.Attend(*step, layer);
  }
  const double keys = session.cache.filled_slots() + (rows + 1) / 2.0;
  state.counters["flop"] =
      Counter(4.0 * kLayers * 9 * 64 * rows * keys, Counter::kIsIterationInvariantRate);
  state.counters["bytes"] =
      Counter(2.0 * kLayers * 3 * 64 * sizeof(float) * keys, Counter::kIsIterationInvariantRate);
}
BENCHMARK(Attend)->Apply(Rows);

void Admit(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  FullSession session(static_cast<int>(state.range(1)), rows);
  for (auto _ : state) {
    const SequenceStep sequence = session.cache.Plan(0, rows);
    const std::unique_ptr<DeviceStep> step = MakeStep(*session.backend, {sequence});
    for (int layer = 0; layer < kLayers; ++layer) session.Admit(*step, layer);
    session.cache.Commit(sequence);
  }
}
BENCHMARK(Admit)->Apply(Rows);

void Elementwise(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0));
  const std::unique_ptr<Backend> backend = MakeCpuBackend(static_cast<int>(state.range(1)));
  std::mt19937 random(4);
  const Tensor x = MakeTensor(*backend, rows, 576, RandomFloats(random, rows * 576));
  const Tensor delta = MakeTensor(*backend, rows, 576, RandomFloats(random, rows * 576, 0.01f));
  const Tensor weight = MakeTensor(*backend, 1, 576, RandomFloats(random, 576));
  const Tensor normalized = backend->AllocateTensor(ElementType::kFloat32, rows, 576).value();
  const Tensor gate_up = MakeTensor(*backend, rows, 3072, RandomFloats(random, rows * 3072));
  const Tensor hidden = backend->AllocateTensor(ElementType::kFloat32, rows, 1536).value();
  for (auto _ : state) {
    for (int layer = 0; layer < kLayers; ++layer) {
      backend->AddRmsNorm(x, delta, weight, 1e-5f, normalized);
      backend->AddRmsNorm(x, delta, weight, 1e-5f, normalized);
      backend->SwiGlu(gate_up, hidden);
    }
  }
}
BENCHMARK(Elementwise)->Apply(Rows);

void Load(benchmark::State& state) {
  for (auto _ : state) {
    const std::unique_ptr<Backend> backend = MakeCpuBackend(2);
    benchmark::DoNotOptimize(RandomMatrices(*backend, kLayers, WeightType::kQ4_1, 3072, 576));
  }
}
BENCHMARK(Load)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace weir

BENCHMARK_MAIN();
