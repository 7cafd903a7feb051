#include "worker/engine/decode_pass.h"

#include <utility>

namespace weir {

absl::StatusOr<std::unique_ptr<DecodePass>> DecodePass::Create(const LlamaModel* model,
                                                               KvStorage* kv, Tensor last_rows) {
  std::unique_ptr<DecodePass> pass(new DecodePass(model, kv, last_rows));
  Backend& backend = model->backend();
  const int sessions = kv->shape().sessions;
  const int most_rows = backend.PaddedRows(sessions);
  for (int row = 0; row < most_rows; ++row) pass->single_rows_.push_back({row, 1});

  absl::StatusOr<std::unique_ptr<LlamaForward>> forward = LlamaForward::Create(model, most_rows);
  if (!forward.ok()) return forward.status();
  pass->forward_ = *std::move(forward);
  absl::StatusOr<std::unique_ptr<DeviceStep>> step =
      backend.AllocateStep(kv->shape(), most_rows, sessions);
  if (!step.ok()) return step.status();
  pass->step_ = *std::move(step);
  absl::StatusOr<std::unique_ptr<LlamaHead>> head = LlamaHead::Create(model, most_rows);
  if (!head.ok()) return head.status();
  pass->head_ = *std::move(head);
  absl::StatusOr<Tensor> head_rows =
      backend.AllocateTensor(backend.activation_type(), most_rows, model->config().hidden);
  if (!head_rows.ok()) return head_rows.status();
  pass->head_rows_ = *head_rows;
  return pass;
}

absl::Status DecodePass::Record(Communicator& communicator) {
  Backend& backend = model_->backend();
  int recorded = 0;
  for (int lanes = 1; lanes <= kv_->shape().sessions; ++lanes) {
    const int rows = backend.PaddedRows(lanes);
    if (rows == recorded) continue;
    recorded = rows;
    absl::Status status = backend.Record(rows, [&] { return EnqueueAll(communicator, rows); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status DecodePass::Run(Communicator& communicator, absl::Span<const int32_t> tokens,
                             absl::Span<const SequenceStep> sequences,
                             absl::Span<const std::optional<LikeliestRequest>> requests) {
  Backend& backend = model_->backend();
  rows_ = backend.PaddedRows(static_cast<int>(sequences.size()));
  bool asked = false;
  requests_.clear();
  for (const std::optional<LikeliestRequest>& request : requests) {
    asked = asked || request.has_value();
    requests_.push_back(request.value_or(LikeliestRequest()));
  }
  backend.LoadStep(tokens, sequences, *step_);
  head_->Ask(requests_);
  if (tokens.empty()) {
    // A generation that goes on from what was read before: too rare to record.
    EnqueueHead(rows_);
  } else {
    absl::Status status = backend.Replay(rows_, [&] { return EnqueueAll(communicator, rows_); });
    if (!status.ok()) return status;
  }
  // How much is gathered depends on the requests, so this is not recorded.
  return asked ? head_->Gather(communicator, rows_) : absl::OkStatus();
}

absl::Status DecodePass::EnqueueAll(Communicator& communicator, int rows) {
  forward_->Begin(*step_, absl::MakeConstSpan(single_rows_).first(rows));
  absl::Status status = forward_->RunLayers(communicator, *kv_, 0, model_->config().layers);
  if (!status.ok()) return status;
  model_->backend().KeepLastRows(*step_, forward_->output(), last_rows_);
  EnqueueHead(rows);
  return absl::OkStatus();
}

void DecodePass::EnqueueHead(int rows) {
  const Tensor head_rows = head_rows_.Rows(0, rows);
  model_->backend().RecallLastRows(*step_, last_rows_, head_rows);
  head_->Project(head_rows);
}

}  // namespace weir
