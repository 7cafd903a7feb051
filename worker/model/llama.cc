#include "worker/model/llama.h"

#include <cassert>
#include <optional>

#include "absl/time/clock.h"
#include "kernels/row_share.h"

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
      {&forward->own_normed_, hidden},
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
  forward->ReturnRows();
  absl::StatusOr<Tensor> residual = backend.AllocateTensor(ElementType::kFloat32, max_rows, hidden);
  if (!residual.ok()) return residual.status();
  forward->residual_ = *residual;
  absl::StatusOr<Tensor> row_scores =
      backend.AllocateTensor(ElementType::kFloat32, model->kv_heads(), max_rows);
  if (!row_scores.ok()) return row_scores.status();
  forward->row_scores_ = *row_scores;
  return forward;
}

int64_t LlamaForward::bytes_per_row() const {
  int64_t bytes = 0;
  for (const Tensor& tensor :
       {own_normed_, delta_, qkv_, attention_, gate_up_, activated_, residual_, row_scores_}) {
    bytes += tensor.elements() * ElementBytes(tensor.type);
  }
  return bytes / residual_.rows;
}

absl::Status LlamaForward::ShareRows(Communicator& communicator) {
  const absl::StatusOr<std::optional<SharedRows>> shared =
      communicator.ShareRows(residual_.rows, residual_.cols);
  if (!shared.ok()) return shared.status();
  if (!shared->has_value()) return absl::OkStatus();
  shared_deltas_ = (*shared)->deltas;
  normed_ = (*shared)->normed;
  return absl::OkStatus();
}

void LlamaForward::ReturnRows() {
  shared_deltas_.clear();
  normed_ = own_normed_;
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

// Many rows are summed by shares, if ranks share them. If not, the sum over ranks of one half
// of a chunk hides under the products of the other. Small sums take less time than either loses.
void LlamaForward::SplitRows(const Communicator& communicator) {
  constexpr int64_t kLeastShared = 256;  // the ranks' two waits for one another take 13 us
  constexpr int64_t kLeastSplit = 512;
  parts_.clear();
  shares_.clear();
  fuses_norm_ = false;
  if (!shared_deltas_.empty() && groups_.size() == 1 && rows_ >= kLeastShared) {
    SplitShares(communicator);
  }
  if (sums_shared_rows() || !communicator.overlaps() || groups_.size() != 1 ||
      rows_ < kLeastSplit) {
    parts_.push_back({0, rows_, groups_});
    fuses_norm_ = !sums_shared_rows() && communicator.FusesNorm(rows_, delta_.cols);
    return;
  }
  const int64_t half = rows_ / 2;
  parts_.push_back({0, half, {{0, static_cast<int>(half)}}});
  parts_.push_back({half, rows_ - half, {{0, static_cast<int>(rows_ - half)}}});
}

// The other ranks' shares come first, so that they are under way while the next is multiplied; each
// rank starts with the next one, so that not all copy into one rank's memory at once.
void LlamaForward::SplitShares(const Communicator& communicator) {
  for (int i = 1; i <= communicator.size(); ++i) {
    const int rank = (communicator.rank() + i) % communicator.size();
    const RowShare share = ShareOfRows(rows_, rank, communicator.size());
    if (share.rows() == 0) continue;
    shares_.push_back({.rank = rank,
                       .part = {share.begin, share.rows(), {{0, static_cast<int>(share.rows())}}},
                       .shared = shared_deltas_[rank].Rows(0, share.rows())});
  }
}

absl::Status LlamaForward::MultiplyAndSum(Communicator& communicator, const Part& part, Tensor x,
                                          const Matrix& weights) {
  Backend& backend = model_->backend();
  if (sums_shared_rows()) {
    absl::Status status;
    for (const auto& [rank, rows, shared] : shares_) {
      const Tensor from = x.Rows(rows.first_row, rows.rows);
      const bool own = rank == communicator.rank();
      const Tensor delta = own ? shared : delta_.Rows(rows.first_row, rows.rows);
      backend.MatMul(rows.groups, from, weights, delta);
      if (own) continue;
      status = communicator.Poll();
      if (!status.ok()) break;
      backend.StartCopy(delta, shared);
    }
    backend.FinishCopies();
    return status;
  }
  const Tensor delta = delta_.Rows(part.first_row, part.rows);
  backend.MatMul(part.groups, x.Rows(part.first_row, part.rows), weights, delta);
  if (communicator.size() == 1 || fuses_norm_) return absl::OkStatus();
  const absl::Time start = absl::Now();
  absl::Status status =
      parts_.size() == 1 ? communicator.AllReduceSum(delta) : communicator.StartSum(delta);
  all_reduce_time_ += absl::Now() - start;
  return status;
}

absl::Status LlamaForward::AddSum(Communicator& communicator, const Part& part,
                                  Tensor norm_weight) {
  const float epsilon = model_->config().norm_epsilon;
  const Tensor residual = residual_.Rows(part.first_row, part.rows);
  if (sums_shared_rows()) return communicator.SumAddRmsNorm(residual, norm_weight, epsilon);
  const Tensor delta = delta_.Rows(part.first_row, part.rows);
  const Tensor normed = normed_.Rows(part.first_row, part.rows);
  if (fuses_norm_) {
    return communicator.AllReduceAddRmsNorm(residual, delta, norm_weight, epsilon, normed);
  }
  if (parts_.size() > 1) {
    if (absl::Status status = communicator.FinishSum(); !status.ok()) return status;
  }
  model_->backend().AddRmsNorm(residual, delta, norm_weight, epsilon, normed);
  return absl::OkStatus();
}

void LlamaForward::Project(int layer) {
  model_->backend().MatMul(groups_, normed_.Rows(0, rows_), *model_->weights().layers[layer].qkv,
                           qkv_.Rows(0, rows_));
}

absl::Status LlamaForward::Output(Communicator& communicator, const Part& part, int layer) {
  return MultiplyAndSum(communicator, part, attention_, *model_->weights().layers[layer].output);
}

absl::Status LlamaForward::FeedForward(Communicator& communicator, const Part& part, int layer) {
  const LayerWeights& weights = model_->weights().layers[layer];
  absl::Status status = AddSum(communicator, part, weights.feed_forward_norm);
  if (!status.ok()) return status;
  Backend& backend = model_->backend();
  const Tensor normed = normed_.Rows(part.first_row, part.rows);
  backend.MatMulSwiGlu(part.groups, normed, *weights.gate_up,
                       gate_up_.Rows(part.first_row, part.rows),
                       activated_.Rows(part.first_row, part.rows));
  return MultiplyAndSum(communicator, part, activated_, *weights.down);
}

absl::Status LlamaForward::EndLayer(Communicator& communicator, const Part& part, int layer) {
  const LlamaWeights& weights = model_->weights();
  const bool last = layer + 1 == model_->config().layers;
  const Tensor norm = last ? weights.output_norm : weights.layers[layer + 1].attention_norm;
  return AddSum(communicator, part, norm);
}

absl::Status LlamaForward::RunLayers(Communicator& communicator, KvStorage& kv, int begin,
                                     int end) {
  assert(communicator.rank() == model_->rank() && communicator.size() == model_->ranks());
  SplitRows(communicator);
  const Tensor qkv = qkv_.Rows(0, rows_);
  const Tensor attention = attention_.Rows(0, rows_);
  Backend& backend = model_->backend();
  if (begin < end) Project(begin);
  for (int i = begin; i < end; ++i) {
    backend.Attend(kv, i, *step_, qkv, attention, row_scores_);
    backend.Admit(kv, i, *step_, qkv, row_scores_);
    for (const Part& part : parts_) {
      if (absl::Status status = Output(communicator, part, i); !status.ok()) return status;
    }
    for (const Part& part : parts_) {
      if (absl::Status status = FeedForward(communicator, part, i); !status.ok()) return status;
    }
    for (const Part& part : parts_) {
      if (absl::Status status = EndLayer(communicator, part, i); !status.ok()) return status;
    }
    if (i + 1 < end) Project(i + 1);
  }
  return absl::OkStatus();
}

}  // namespace weir
