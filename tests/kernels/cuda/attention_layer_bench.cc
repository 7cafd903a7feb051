// Times one attention layer over a whole text, as the model runs it: the projections, rotations,
// attention, scores and admission of every chunk, from an empty cache. One JSON object a line.
//
//   attention_layer_bench [--exact] [--tokens T] W:N:C ...
//
// Slots, sub-caches and rows of a chunk; Llama-3.1-8B's sizes, 64 sinks.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace weir {
namespace {

constexpr int kHidden = 4096;
constexpr int kQueryHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(value);
}

RopeTable MakeRope(int rotations) {
  RopeTable table = {.rotations = rotations, .head_dim = kHeadDim};
  for (int rotation = 0; rotation < rotations; ++rotation) {
    for (int i = 0; i < kHeadDim / 2; ++i) {
      const double angle = rotation * std::pow(500000.0, -2.0 * i / kHeadDim);
      table.cos.push_back(static_cast<float>(std::cos(angle)));
      table.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

class Layer {
 public:
  Layer(const CascadeConfig& cascade, bool exact)
      : cascade_(cascade), backend_(Must(CreateCudaBackend({.exact_scores = exact}))) {
    const int rows = cascade.stride;
    const KvShape shape = {.layers = 1,
                           .kv_heads = kKvHeads,
                           .query_heads = kQueryHeads,
                           .head_dim = kHeadDim,
                           .sessions = 1,
                           .slots = cascade.total_slots(),
                           .max_step_rows = rows,
                           .max_stride = rows};
    kv_ = Must(backend_->AllocateKv(shape, MakeRope(static_cast<int>(RotationsNeeded(cascade)))));
    step_ = Must(backend_->AllocateStep(shape, rows, 1));
    constexpr int kWidth = (kQueryHeads + 2 * kKvHeads) * kHeadDim;
    // Inputs of variance 1; queries and keys of a size that makes attention neither flat nor sharp.
    qkv_weights_ = MakeMatrix(kWidth, 1.3f / std::sqrt(kHidden), 1);
    output_weights_ = MakeMatrix(kHidden, 1.0f / std::sqrt(kHidden), 2);
    const auto activations = [&](int width) {
      return Must(backend_->AllocateTensor(ElementType::kBFloat16, rows, width));
    };
    in_ = activations(kHidden);
    out_ = activations(kHidden);
    qkv_ = activations(kWidth);
    attention_ = activations(kHidden);
    row_scores_ = Must(backend_->AllocateTensor(ElementType::kFloat32, kKvHeads, rows));
    FillInput();
  }

  // Reads a text of so many tokens, a multiple of the stride. Returns seconds.
  double Read(int64_t tokens) {
    KvCache cache(0, cascade_);
    const RowGroup group = {0, cascade_.stride};
    const auto start = std::chrono::steady_clock::now();
    for (int64_t token = 0; token < tokens; token += cascade_.stride) {
      const SequenceStep sequence = cache.Plan(0, cascade_.stride);
      backend_->LoadStep({}, {&sequence, 1}, *step_);
      backend_->MatMul({&group, 1}, in_, *qkv_weights_, qkv_);
      backend_->Attend(*kv_, 0, *step_, qkv_, attention_, row_scores_);
      backend_->Admit(*kv_, 0, *step_, qkv_, row_scores_);
      backend_->MatMul({&group, 1}, attention_, *output_weights_, out_);
      cache.Commit(sequence);
    }
    if (const absl::Status status = backend_->Synchronize(); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::string device() const { return backend_->description(); }

 private:
  std::unique_ptr<Matrix> MakeMatrix(int outputs, float deviation, int seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, deviation);
    std::vector<float> values(int64_t{outputs} * kHidden);
    for (float& value : values) value = normal(random);
    std::vector<WeightRow> rows;
    for (int i = 0; i < outputs; ++i) {
      rows.push_back({reinterpret_cast<const std::byte*>(values.data() + int64_t{i} * kHidden),
                      WeightType::kF32});
    }
    return Must(backend_->LoadMatrix(rows, kHidden));
  }

  void FillInput() {
    const std::unique_ptr<Matrix> table = MakeMatrix(cascade_.stride, 1.0f, 3);
    std::vector<int32_t> tokens(cascade_.stride);
    std::iota(tokens.begin(), tokens.end(), 0);
    backend_->LoadStep(tokens, {}, *step_);
    backend_->Embed(*table, *step_, in_);
    (void)backend_->Synchronize();
  }

  const CascadeConfig cascade_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  std::unique_ptr<Matrix> qkv_weights_;
  std::unique_ptr<Matrix> output_weights_;
  Tensor in_, qkv_, attention_, row_scores_, out_;
};

int Main(int argc, char** argv) {
  bool exact = false;
  int64_t tokens = 1 << 20;
  for (int i = 1; i < argc; ++i) {
    CascadeConfig cascade;
    if (std::strcmp(argv[i], "--exact") == 0) {
      exact = true;
      continue;
    }
    if (std::strcmp(argv[i], "--tokens") == 0 && i + 1 < argc) {
      tokens = std::atoll(argv[++i]);
      continue;
    }
    if (std::sscanf(argv[i], "%d:%d:%d", &cascade.slots, &cascade.sub_caches, &cascade.stride) !=
        3) {
      std::fprintf(stderr, "What is %s? Give W:N:C.\n", argv[i]);
      return 2;
    }
    Layer layer(cascade, exact);
    layer.Read(tokens / 16);  // warms up
    const double seconds = layer.Read(tokens);
    std::printf(
        "{\"kernel\": \"attention_layer\", \"device\": \"%s\", \"scores\": \"%s\", \"slots\": %d, "
        "\"sub_caches\": %d, \"chunk\": %d, \"tokens\": %lld, \"seconds\": %.4f, "
        "\"ms_per_chunk\": %.4f}\n",
        layer.device().c_str(), exact ? "exact" : "fast", cascade.slots, cascade.sub_caches,
        cascade.stride, static_cast<long long>(tokens), seconds,
        seconds * 1e3 * cascade.stride / tokens);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
