#include "worker/engine/chunk_pass.h"

#include <cassert>
#include <limits>

#include "absl/types/span.h"

namespace weir {

absl::StatusOr<std::unique_ptr<ChunkPass>> ChunkPass::Create(const LlamaModel* model, KvStorage* kv,
                                                             Tensor last_rows) {
  std::unique_ptr<ChunkPass> pass(new ChunkPass(model, kv, last_rows));
  Backend& backend = model->backend();
  const int stride = kv->shape().max_stride;

  absl::StatusOr<std::unique_ptr<LlamaForward>> forward = LlamaForward::Create(model, stride);
  if (!forward.ok()) return forward.status();
  pass->forward_ = *std::move(forward);
  absl::StatusOr<std::unique_ptr<DeviceStep>> step =
      backend.AllocateStep(kv->shape(), stride, /*sequences=*/1);
  if (!step.ok()) return step.status();
  pass->step_ = *std::move(step);
  absl::StatusOr<std::unique_ptr<LlamaHead>> head = LlamaHead::Create(model, kScoreRows);
  if (!head.ok()) return head.status();
  pass->head_ = *std::move(head);
  absl::StatusOr<Tensor> score_rows =
      backend.AllocateTensor(backend.activation_type(), stride, model->config().hidden);
  if (!score_rows.ok()) return score_rows.status();
  pass->score_rows_ = *score_rows;
  return pass;
}

void ChunkPass::Begin(PlannedChunk chunk, SequenceStep sequence) {
  assert(!in_progress() && sequence.first_row == 0);

  chunk_ = std::move(chunk);
  sequence_ = std::move(sequence);
  next_layer_ = 0;
  model_->backend().LoadStep(chunk_->tokens, {&sequence_, 1}, *step_);
  const RowGroup group = {0, sequence_.rows};
  forward_->Begin(*step_, {&group, 1});
}

absl::Status ChunkPass::RunLayers(Communicator& communicator, int layers) {
  assert(in_progress() && layers <= layers_left());

  const int begin = next_layer_;
  next_layer_ += layers;
  return forward_->RunLayers(communicator, *kv_, begin, next_layer_);
}

absl::StatusOr<std::vector<float>> ChunkPass::Finish(Communicator& communicator) {
  assert(in_progress() && layers_left() == 0);

  std::vector<float> scores;
  if (chunk_->score) {  // comes first: it needs the last row of the step before
    absl::StatusOr<std::vector<float>> scored = Score(communicator);
    if (!scored.ok()) return scored.status();
    scores = *std::move(scored);
  }
  model_->backend().KeepLastRows(*step_, forward_->output(), last_rows_);
  if (chunk_->next.has_value()) {
    head_->Ask({&*chunk_->next, 1});
    head_->Project(last_rows_.Rows(chunk_->cache_slot, 1));
    if (absl::Status status = head_->Gather(communicator, 1); !status.ok()) return status;
  }
  return scores;
}

absl::StatusOr<std::optional<LogitsSummary>> ChunkPass::ReadNext(const Communicator& communicator) {
  absl::StatusOr<std::vector<LogitsSummary>> rows = head_->Read(communicator, 1);
  if (!rows.ok()) return rows.status();
  if (rows->empty()) return std::nullopt;
  return std::move(rows->front());
}

absl::StatusOr<std::vector<float>> ChunkPass::Score(Communicator& communicator) {
  // Token t is foretold by the row before it: of the chunk, or the last row of the step before.
  Backend& backend = model_->backend();
  const bool has_read = sequence_.first_token > 0;
  int rows = 0;
  if (has_read) {
    backend.CopyRows(last_rows_.Rows(chunk_->cache_slot, 1), score_rows_.Rows(rows++, 1));
  }
  if (const int before = sequence_.rows - 1; before > 0) {
    backend.CopyRows(forward_->output().Rows(0, before), score_rows_.Rows(rows, before));
    rows += before;
  }

  std::vector<float> scores;
  if (rows > 0) {
    absl::StatusOr<std::vector<float>> scored =
        head_->Score(communicator, score_rows_.Rows(0, rows),
                     absl::MakeConstSpan(chunk_->tokens).last(static_cast<size_t>(rows)));
    if (!scored.ok()) return scored.status();
    scores = *std::move(scored);
  }
  if (!has_read) scores.insert(scores.begin(), std::numeric_limits<float>::quiet_NaN());
  return scores;
}

}  // namespace weir
