#include "worker/engine/step_executor.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cache/kv_pool.h"
#include "worker/engine/head_memory_codec.h"
#include "worker/model/rope.h"

namespace weir {

absl::StatusOr<std::unique_ptr<StepExecutor>> StepExecutor::Create(const LlamaModel* model,
                                                                   int sessions,
                                                                   const CascadeConfig& largest) {
  std::unique_ptr<StepExecutor> executor(new StepExecutor(model));
  const LlamaConfig& config = model->config();
  Backend& backend = model->backend();
  executor->limits_ = LimitsOf(largest, config.positions);
  if (absl::Status status = ValidateCascade(largest, executor->limits_); !status.ok()) {
    return status;
  }
  if (sessions < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the number of sessions is ", sessions, "; it must be at least 1"));
  }
  executor->caches_.resize(sessions);

  const KvShape shape = {.layers = config.layers,
                         .kv_heads = model->kv_heads(),
                         .query_heads = model->query_heads(),
                         .head_dim = config.head_dim,
                         .sessions = sessions,
                         .slots = largest.total_slots(),
                         .max_step_rows = executor->max_rows(),
                         .max_stride = largest.stride};
  executor->session_bytes_ = SessionBytes(shape, backend.activation_type());
  const int rotations = static_cast<int>(RotationsNeeded(executor->limits_));
  absl::StatusOr<std::unique_ptr<KvStorage>> kv =
      backend.AllocateKv(shape, MakeRopeTable(config, rotations));
  if (!kv.ok()) return kv.status();
  executor->kv_ = *std::move(kv);

  absl::StatusOr<std::unique_ptr<LlamaForward>> forward =
      LlamaForward::Create(model, executor->max_rows());
  if (!forward.ok()) return forward.status();
  executor->forward_ = *std::move(forward);
  absl::StatusOr<std::unique_ptr<DeviceStep>> device_step =
      backend.AllocateStep(shape, executor->max_rows(), sessions);
  if (!device_step.ok()) return device_step.status();
  executor->device_step_ = *std::move(device_step);
  absl::StatusOr<std::unique_ptr<LlamaHead>> head = LlamaHead::Create(model);
  if (!head.ok()) return head.status();
  executor->head_ = *std::move(head);
  absl::StatusOr<Tensor> last_rows =
      backend.AllocateTensor(backend.activation_type(), sessions, config.hidden);
  if (!last_rows.ok()) return last_rows.status();
  executor->last_rows_ = *last_rows;
  absl::StatusOr<Tensor> head_rows =
      backend.AllocateTensor(backend.activation_type(), executor->max_rows(), config.hidden);
  if (!head_rows.ok()) return head_rows.status();
  executor->head_rows_ = *head_rows;
  return executor;
}

void StepExecutor::JoinGroup(Communicator* communicator) {
  communicator_ = communicator;
  for (std::optional<KvCache>& cache : caches_) cache.reset();
}

absl::Status StepExecutor::Validate(const StepPlan& plan) const {
  std::vector<std::optional<CascadeConfig>> cascades(caches_.size());
  for (int slot = 0; slot < sessions(); ++slot) {
    if (caches_[slot].has_value()) cascades[slot] = caches_[slot]->cascade();
  }
  for (const SessionReset& reset : plan.resets) {
    if (reset.cache_slot < 0 || reset.cache_slot >= sessions()) {
      return absl::InternalError(
          absl::StrCat("a step plan resets slot ", reset.cache_slot, " of ", sessions()));
    }
    absl::Status valid = ValidateCascade(reset.cascade, limits_);
    if (!valid.ok()) return absl::InternalError(valid.message());
    cascades[reset.cache_slot] = reset.cascade;
  }
  int64_t rows = 0;
  std::vector<bool> seen(caches_.size(), false);
  for (const PlannedSequence& sequence : plan.sequences) {
    if (absl::Status valid = ValidateSequence(sequence, cascades); !valid.ok()) return valid;
    if (seen[sequence.cache_slot]) {
      return absl::InternalError(
          absl::StrCat("a step plan has slot ", sequence.cache_slot, " twice"));
    }
    seen[sequence.cache_slot] = true;
    rows += static_cast<int64_t>(sequence.tokens.size());
  }
  if (rows > max_rows()) {
    return absl::InternalError(
        absl::StrCat("a step plan has ", rows, " rows; at most ", max_rows(), " fit"));
  }
  if (plan.inspection.has_value()) {
    const Inspection& inspection = *plan.inspection;
    if (inspection.cache_slot < 0 || inspection.cache_slot >= sessions() ||
        !cascades[inspection.cache_slot].has_value() || inspection.layer < 0 ||
        inspection.layer >= model_->config().layers) {
      return absl::InternalError(absl::StrCat("a step plan inspects slot ", inspection.cache_slot,
                                              ", layer ", inspection.layer));
    }
  }
  return absl::OkStatus();
}

absl::Status StepExecutor::ValidateSequence(
    const PlannedSequence& sequence,
    const std::vector<std::optional<CascadeConfig>>& cascades) const {
  const int slot = sequence.cache_slot;
  if (slot < 0 || slot >= sessions() || !cascades[slot].has_value()) {
    return absl::InternalError(
        absl::StrCat("a step plan names slot ", slot, ", which is not used"));
  }
  if (static_cast<int64_t>(sequence.tokens.size()) > cascades[slot]->stride) {
    return absl::InternalError(absl::StrCat("a step plan has ", sequence.tokens.size(),
                                            " tokens of slot ", slot, ", whose stride is ",
                                            cascades[slot]->stride));
  }
  const bool has_read = caches_[slot].has_value() && caches_[slot]->tokens() > 0;
  if (sequence.tokens.empty() && (!sequence.logits || sequence.score || !has_read)) {
    return absl::InternalError(absl::StrCat("a step plan has nothing to do for slot ", slot));
  }
  for (int32_t token : sequence.tokens) {
    if (token < 0 || token >= model_->config().vocabulary) {
      return absl::InternalError(absl::StrCat("a step plan has token ", token, "; there are ",
                                              model_->config().vocabulary));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StepResult> StepExecutor::Execute(const StepPlan& plan) {
  for (const SessionReset& reset : plan.resets) {
    caches_[reset.cache_slot].emplace(reset.cache_slot, reset.cascade);
  }
  StepResult result;
  result.sequences.resize(plan.sequences.size());
  if (absl::Status status = RunModel(plan, result); !status.ok()) return status;
  if (absl::Status status = ComputeLogits(plan, result); !status.ok()) return status;
  if (absl::Status status = model_->backend().Synchronize(); !status.ok()) return status;
  if (plan.inspection.has_value()) {
    absl::StatusOr<std::vector<HeadMemory>> heads = Inspect(*plan.inspection);
    if (!heads.ok()) return heads.status();
    result.heads = *std::move(heads);
  }
  return result;
}

absl::Status StepExecutor::RunModel(const StepPlan& plan, StepResult& result) {
  tokens_.clear();
  steps_.clear();
  for (const PlannedSequence& sequence : plan.sequences) {
    if (sequence.tokens.empty()) continue;
    steps_.push_back(caches_[sequence.cache_slot]->Plan(static_cast<int>(tokens_.size()),
                                                        static_cast<int>(sequence.tokens.size())));
    tokens_.insert(tokens_.end(), sequence.tokens.begin(), sequence.tokens.end());
  }
  if (tokens_.empty()) return absl::OkStatus();

  Backend& backend = model_->backend();
  backend.LoadStep(tokens_, steps_, *device_step_);
  std::vector<RowGroup> groups;
  for (const SequenceStep& step : steps_) groups.push_back({step.first_row, step.rows});
  forward_->Begin(*device_step_, groups);
  absl::Status status = forward_->RunLayers(*communicator_, *kv_, 0, model_->config().layers);
  if (!status.ok()) return status;

  // Scores come first: they need the last rows of the step before.
  auto step = steps_.begin();
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (plan.sequences[i].tokens.empty()) continue;
    if (plan.sequences[i].score) {
      absl::StatusOr<std::vector<float>> scores = Score(plan.sequences[i], *step);
      if (!scores.ok()) return scores.status();
      result.sequences[i].scores = *std::move(scores);
    }
    ++step;
  }
  backend.KeepLastRows(*device_step_, forward_->output(), last_rows_);
  Commit();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> StepExecutor::Score(const PlannedSequence& sequence,
                                                       const SequenceStep& step) {
  // Token t is foretold by the row before it: of the step, or the last row of the step before.
  Backend& backend = model_->backend();
  const bool has_read = step.first_token > 0;
  int rows = 0;
  if (has_read) {
    backend.CopyRows(last_rows_.Rows(step.cache_slot, 1), head_rows_.Rows(rows++, 1));
  }
  if (const int before = step.rows - 1; before > 0) {
    backend.CopyRows(forward_->output().Rows(step.first_row, before),
                     head_rows_.Rows(rows, before));
    rows += before;
  }

  std::vector<float> scores;
  if (rows > 0) {
    const absl::Span<const int32_t> targets =
        absl::MakeConstSpan(sequence.tokens).last(static_cast<size_t>(rows));
    absl::StatusOr<std::vector<float>> scored =
        head_->Score(*communicator_, head_rows_.Rows(0, rows), targets);
    if (!scored.ok()) return scored.status();
    scores = *std::move(scored);
  }
  if (!has_read) scores.insert(scores.begin(), std::numeric_limits<float>::quiet_NaN());
  return scores;
}

void StepExecutor::Commit() {
  for (const SequenceStep& step : steps_) {
    caches_[step.cache_slot]->Commit(step);
    if (arrivals_.size() < step.rings.size()) {
      arrivals_.resize(step.rings.size(), 0);
      accepts_.resize(step.rings.size(), 0);
    }
    for (size_t level = 0; level < step.rings.size(); ++level) {
      arrivals_[level] += step.rings[level].arrivals;
      accepts_[level] += step.rings[level].new_entries();
    }
  }
}

absl::Status StepExecutor::ComputeLogits(const StepPlan& plan, StepResult& result) {
  int64_t count = 0;
  for (const PlannedSequence& sequence : plan.sequences) {
    if (!sequence.logits) continue;
    model_->backend().CopyRows(last_rows_.Rows(sequence.cache_slot, 1), head_rows_.Rows(count, 1));
    ++count;
  }
  if (count == 0) return absl::OkStatus();
  const Tensor rows = head_rows_.Rows(0, count);
  absl::StatusOr<std::vector<std::vector<float>>> logits = head_->Logits(*communicator_, rows);
  if (!logits.ok()) return logits.status();
  if (logits->empty()) return absl::OkStatus();  // not rank 0
  auto next = logits->begin();
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (plan.sequences[i].logits) result.sequences[i].logits = std::move(*next++);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HeadMemory>> StepExecutor::Inspect(const Inspection& inspection) {
  const std::vector<LiveSlot> slots = caches_[inspection.cache_slot]->LiveSlots();
  std::vector<HeadMemory> heads;
  for (int head = 0; head < model_->kv_heads(); ++head) {
    const SlotContents contents = kv_->Read(inspection.cache_slot, inspection.layer, head);
    HeadMemory memory;
    memory.kv_head = model_->rank() * model_->kv_heads() + head;
    for (const LiveSlot& slot : slots) {
      memory.tokens.push_back(contents.tokens[slot.slot]);
      memory.scores.push_back(contents.scores[slot.slot]);
      memory.sub_caches.push_back(slot.sub_cache);
    }
    heads.push_back(std::move(memory));
  }

  absl::StatusOr<std::vector<std::string>> gathered =
      communicator_->Gather(SerializeHeadMemories(heads));
  if (!gathered.ok()) return gathered.status();
  std::vector<HeadMemory> all;
  for (const std::string& bytes : *gathered) {
    absl::StatusOr<std::vector<HeadMemory>> part = ParseHeadMemories(bytes);
    if (!part.ok()) return part.status();
    std::move(part->begin(), part->end(), std::back_inserter(all));
  }
  return all;
}

std::vector<SubCacheStats> StepExecutor::SubCacheTotals() const {
  const std::vector<int64_t> swaps = kv_->swaps();
  const int64_t heads = int64_t{model_->config().layers} * model_->kv_heads();
  std::vector<SubCacheStats> totals(arrivals_.size());
  for (size_t level = 0; level < totals.size(); ++level) {
    totals[level].accepts = accepts_[level] * heads;
    totals[level].swaps = level < swaps.size() ? swaps[level] : 0;
    totals[level].drops = (arrivals_[level] - accepts_[level]) * heads - totals[level].swaps;
  }
  return totals;
}

}  // namespace weir
