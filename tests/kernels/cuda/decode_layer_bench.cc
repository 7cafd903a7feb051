// Where a decode step's time goes: layers of Llama-3.1-8B's sizes, recorded with more and more of
// what they do. One JSON object a line.
//
//   decode_layer_bench BATCH:W[:RANKS] ...     sessions, slots; one rank's part of so many, without
//                                              the sums over ranks

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cache/cascade_limits.h"
#include "cache/kv_cache.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace weir {
namespace {

constexpr int kLayers = 8;
constexpr int kHidden = 4096;
constexpr int kFeedForward = 14336;
constexpr int kQueryHeads = 32;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;
constexpr int kSteps = 50;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(value);
}

struct Layer {
  std::unique_ptr<Matrix> qkv, output, gate_up, down;
};

class Model {
 public:
  Model(int batch, int ranks, const CascadeConfig& cascade)
      : backend_(Must(CreateCudaBackend({}))), rows_(backend_->PaddedRows(batch)) {
    const int query_heads = kQueryHeads / ranks;
    const int kv_heads = kKvHeads / ranks;
    const int feed_forward = kFeedForward / ranks;
    const int qkv_width = (query_heads + 2 * kv_heads) * kHeadDim;
    const KvShape shape = {.layers = kLayers,
                           .kv_heads = kv_heads,
                           .query_heads = query_heads,
                           .head_dim = kHeadDim,
                           .sessions = batch,
                           .slots = cascade.total_slots(),
                           .max_step_rows = rows_,
                           .max_stride = cascade.stride};
    RopeTable rope = {.rotations = static_cast<int>(RotationsNeeded(cascade)),
                      .head_dim = kHeadDim};
    rope.cos.assign(int64_t{rope.rotations} * kHeadDim / 2, 0.8f);
    rope.sin.assign(rope.cos.size(), 0.6f);
    kv_ = Must(backend_->AllocateKv(shape, rope));
    step_ = Must(backend_->AllocateStep(shape, rows_, batch));
    std::minstd_rand random(1);
    pool_.resize(int64_t{2} * kFeedForward * kHidden + 4096);
    for (uint16_t& weight : pool_) {  // about 0.01 to 0.03, either sign
      weight = static_cast<uint16_t>((random() & 0x8000) | 0x3c00 | (random() & 0xff));
    }
    for (int i = 0; i < kLayers; ++i) {
      layers_.push_back({Load(qkv_width, kHidden), Load(kHidden, query_heads * kHeadDim),
                         Load(2 * feed_forward, kHidden), Load(kHidden, feed_forward)});
    }
    norm_ = Must(backend_->LoadVector(std::vector<float>(kHidden, 1.0f)));
    residual_ = Must(backend_->AllocateTensor(ElementType::kFloat32, rows_, kHidden));
    normed_ = Activations(kHidden);
    delta_ = Activations(kHidden);
    qkv_ = Activations(qkv_width);
    attention_ = Activations(query_heads * kHeadDim);
    gate_up_ = Activations(2 * feed_forward);
    activated_ = Activations(feed_forward);
    row_scores_ = Must(backend_->AllocateTensor(ElementType::kFloat32, kv_heads, rows_));
    for (int row = 0; row < rows_; ++row) groups_.push_back({row, 1});

    // Full caches; what is in them does not matter.
    std::vector<SequenceStep> sequences;
    for (int i = 0; i < batch; ++i) {
      KvCache cache(i, cascade);
      while (cache.filled_slots() < cascade.total_slots()) {
        cache.Commit(cache.Plan(0, std::min(cascade.stride, 4096)));
      }
      sequences.push_back(cache.Plan(i, 1));
    }
    backend_->LoadStep(std::vector<int32_t>(batch, 0), sequences, *step_);
  }

  // What a step does, part by part.
  struct Parts {
    bool products = true;
    bool elementwise = false;  // with products
    bool attention = false;
  };
  double MicrosecondsPerLayer(const Parts& parts) {
    backend_->ForgetRecordings();
    const auto enqueue = [&] {
      for (int i = 0; i < kLayers; ++i) Enqueue(i, parts);
      return absl::OkStatus();
    };
    const auto run = [&] {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kSteps; ++i) (void)backend_->Replay(1, enqueue);
      const absl::Status status = backend_->Synchronize();
      if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    run();
    std::vector<double> times;
    for (int i = 0; i < 5; ++i) times.push_back(run());
    std::sort(times.begin(), times.end());
    return times[2] * 1e6 / kSteps / kLayers;
  }

 private:
  void Enqueue(int i, const Parts& parts) {
    const Layer& layer = layers_[i];
    if (parts.products) backend_->MatMul(groups_, normed_, *layer.qkv, qkv_);
    if (parts.attention) {
      backend_->Attend(*kv_, i, *step_, qkv_, attention_, row_scores_);
      backend_->Admit(*kv_, i, *step_, qkv_, row_scores_);
    }
    if (parts.products) backend_->MatMul(groups_, attention_, *layer.output, delta_);
    if (parts.elementwise) backend_->AddRmsNorm(residual_, delta_, norm_, 1e-5f, normed_);
    if (parts.products && parts.elementwise) {
      backend_->MatMulSwiGlu(groups_, normed_, *layer.gate_up, gate_up_, activated_);
    } else if (parts.products) {
      backend_->MatMul(groups_, normed_, *layer.gate_up, gate_up_);
    }
    if (parts.products) backend_->MatMul(groups_, activated_, *layer.down, delta_);
    if (parts.elementwise) backend_->AddRmsNorm(residual_, delta_, norm_, 1e-5f, normed_);
  }

  std::unique_ptr<Matrix> Load(int outputs, int cols) {
    std::vector<WeightRow> rows;
    for (int i = 0; i < outputs; ++i) {
      rows.push_back({reinterpret_cast<const std::byte*>(pool_.data() + int64_t{i} * cols),
                      WeightType::kBF16});
    }
    return Must(backend_->LoadMatrix(rows, cols));
  }
  Tensor Activations(int width) {
    return Must(backend_->AllocateTensor(ElementType::kBFloat16, rows_, width));
  }

  std::unique_ptr<Backend> backend_;
  int rows_;
  std::unique_ptr<KvStorage> kv_;
  std::unique_ptr<DeviceStep> step_;
  std::vector<uint16_t> pool_;
  std::vector<Layer> layers_;
  std::vector<RowGroup> groups_;
  Tensor norm_, residual_, normed_, delta_, qkv_, attention_, gate_up_, activated_, row_scores_;
};

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    int batch = 0;
    int ranks = 1;
    CascadeConfig cascade = {.stride = 4096};
    if (std::sscanf(argv[i], "%d:%d:%d", &batch, &cascade.slots, &ranks) < 2 || ranks < 1 ||
        kKvHeads % ranks != 0) {
      std::fprintf(stderr, "What is %s? Give BATCH:W or BATCH:W:RANKS.\n", argv[i]);
      return 2;
    }
    Model model(batch, ranks, cascade);
    const double products = model.MicrosecondsPerLayer({});
    const double elementwise = model.MicrosecondsPerLayer({.elementwise = true});
    const double all = model.MicrosecondsPerLayer({.elementwise = true, .attention = true});
    const double attention = model.MicrosecondsPerLayer({.products = false, .attention = true});
    std::printf(
        "{\"benchmark\": \"decode_layer\", \"batch\": %d, \"slots\": %d, \"ranks\": %d, "
        "\"us_products\": %.1f, \"us_with_elementwise\": %.1f, \"us_with_attention\": %.1f, "
        "\"us_attention_alone\": %.1f}\n",
        batch, cascade.slots, ranks, products, elementwise, all, attention);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
