#include "worker/model/llama.h"

#include <cassert>

#include "absl/time/clock.h"

namespace weir {

absl::StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Load(const GgufFile& file, int rank,
                                                             int ranks, Backend* backend) {
  absl::StatusOr<LlamaConfig> config = ReadLlamaConfig(file);
  if (!config.ok()) return config.status();
  absl::StatusOr<LlamaWeights> weights = LoadLlamaWeights(file, *config, rank, ranks, *backend);
  if (!weights.ok()) return weights.status();
  return std::unique_ptr<LlamaModel>(
      new LlamaModel(*std::move(config), *std::move(weights), rank, ranks, backend));
}

absl::StatusOr<std::unique_ptr<LlamaForward>> LlamaForward::Create(const LlamaModel* model,
                                                                   int max_rows) {
  std::unique_ptr<LlamaForward> forward(new LlamaForward(model));
  Backend& backend = model->backend();
  const int64_t hidden = model->config().hidden;
  const int64_t head_dim = model->config().head_dim;
  const int64_t query_width = model->query_heads() * head_dim;
  const int64_t kv_width = model->kv_heads() * head_dim;
  const int64_t feed_forward = model->feed_forward();
  const std::pair<Tensor*, int64_t> widths[] = {
      {&forward->normed_, hidden},
      {&forward->delta_, hidden},
      {&forward->qkv_, query_width + 2 * kv_width},
      {&forward->attention_, query_width},
      {&forward->gate_up_, 2 * feed_forward},
      {&forward->activated_, feed_forward},
  };
  for (const auto& [tensor, width] : widths) {
    absl::StatusOr<Tensor> allocated =
        backend.AllocateTensor(backend.activation_type(), max_rows, width);
    if (!allocated.ok()) return allocated.status();
    *tensor = *allocated;
  }
  absl::StatusOr<Tensor> residual = backend.AllocateTensor(ElementType::kFloat32, max_rows, hidden);
  if (!residual.ok()) return residual.status();
  forward->residual_ = *residual;
  absl::StatusOr<Tensor> row_scores =
      backend.AllocateTensor(ElementType::kFloat32, model->kv_heads(), max_rows);
  if (!row_scores.ok()) return row_scores.status();
  forward->row_scores_ = *row_scores;
  return forward;
}

void LlamaForward::Begin(const DeviceStep& step, absl::Span<const RowGroup> groups) {
  rows_ = groups.back().first_row + groups.back().rows;
  assert(rows_ > 0 && rows_ <= residual_.rows);
  step_ = &step;
  groups_.assign(groups.begin(), groups.end());

  const LlamaWeights& weights = model_->weights();
  Backend& backend = model_->backend();
  backend.Embed(*weights.embedding, step, residual_.Rows(0, rows_));
  backend.RmsNorm(residual_.Rows(0, rows_), weights.layers[0].attention_norm,
                  model_->config().norm_epsilon, normed_.Rows(0, rows_));
}

absl::Status LlamaForward::AllReduce(Communicator& communicator, Tensor x) {
  if (communicator.size() == 1) return absl::OkStatus();
  const absl::Time start = absl::Now();
  absl::Status status = communicator.AllReduceSum(x);
  all_reduce_time_ += absl::Now() - start;
  return status;
}

absl::Status LlamaForward::RunLayers(Communicator& communicator, KvStorage& kv, int begin,
                                     int end) {
  assert(communicator.rank() == model_->rank() && communicator.size() == model_->ranks());

  const LlamaWeights& weights = model_->weights();
  Backend& backend = model_->backend();
  const float epsilon = model_->config().norm_epsilon;
  const Tensor residual = residual_.Rows(0, rows_);
  const Tensor normed = normed_.Rows(0, rows_);
  const Tensor delta = delta_.Rows(0, rows_);
  const Tensor qkv = qkv_.Rows(0, rows_);
  const Tensor attention = attention_.Rows(0, rows_);
  const Tensor gate_up = gate_up_.Rows(0, rows_);
  const Tensor activated = activated_.Rows(0, rows_);

  for (int i = begin; i < end; ++i) {
    const LayerWeights& layer = weights.layers[i];
    backend.MatMul(groups_, normed, *layer.qkv, qkv);
    backend.Attend(kv, i, *step_, qkv, attention, row_scores_);
    backend.Admit(kv, i, *step_, qkv, row_scores_);
    backend.MatMul(groups_, attention, *layer.output, delta);
    if (absl::Status status = AllReduce(communicator, delta); !status.ok()) return status;
    backend.AddRmsNorm(residual, delta, layer.feed_forward_norm, epsilon, normed);

    backend.MatMul(groups_, normed, *layer.gate_up, gate_up);
    backend.SwiGlu(gate_up, activated);
    backend.MatMul(groups_, activated, *layer.down, delta);
    if (absl::Status status = AllReduce(communicator, delta); !status.ok()) return status;
    const bool last = i + 1 == model_->config().layers;
    backend.AddRmsNorm(residual, delta,
                       last ? weights.output_norm : weights.layers[i + 1].attention_norm, epsilon,
                       normed);
  }
  return absl::OkStatus();
}

}  // namespace weir
