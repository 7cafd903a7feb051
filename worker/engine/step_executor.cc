#include "worker/engine/step_executor.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cache/kv_pool.h"
#include "worker/engine/head_memory_codec.h"
#include "worker/engine/rank_agreement.h"
#include "worker/engine/step_digest.h"
#include "worker/engine/step_validation.h"
#include "worker/model/rope.h"

namespace weir {

absl::StatusOr<std::unique_ptr<StepExecutor>> StepExecutor::Create(const LlamaModel* model,
                                                                   int sessions,
                                                                   const CascadeConfig& largest,
                                                                   bool check_ranks_agree) {
  std::unique_ptr<StepExecutor> executor(new StepExecutor(model, check_ranks_agree));
  if (absl::Status status = executor->AllocateSessions(sessions, largest); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::unique_ptr<DecodePass>> decodes =
      DecodePass::Create(model, executor->kv_.get(), executor->last_rows_);
  if (!decodes.ok()) return decodes.status();
  executor->decodes_ = *std::move(decodes);
  absl::StatusOr<std::unique_ptr<ChunkPass>> chunk =
      ChunkPass::Create(model, executor->kv_.get(), executor->last_rows_);
  if (!chunk.ok()) return chunk.status();
  executor->chunk_ = *std::move(chunk);
  return executor;
}

absl::Status StepExecutor::AllocateSessions(int sessions, const CascadeConfig& largest) {
  const LlamaConfig& config = model_->config();
  Backend& backend = model_->backend();
  limits_ = LimitsOf(largest, config.positions);
  if (absl::Status status = ValidateCascade(largest, limits_); !status.ok()) return status;
  if (sessions < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the number of sessions is ", sessions, "; it must be at least 1"));
  }
  caches_.resize(sessions);

  const KvShape shape = {.layers = config.layers,
                         .kv_heads = model_->kv_heads(),
                         .query_heads = model_->query_heads(),
                         .head_dim = config.head_dim,
                         .sessions = sessions,
                         .slots = largest.total_slots(),
                         .max_step_rows = std::max(backend.PaddedRows(sessions), largest.stride),
                         .max_stride = largest.stride};
  session_bytes_ = SessionBytes(shape, backend.activation_type());
  const int rotations = static_cast<int>(RotationsNeeded(limits_));
  absl::StatusOr<std::unique_ptr<KvStorage>> kv =
      backend.AllocateKv(shape, MakeRopeTable(config, rotations));
  if (!kv.ok()) return kv.status();
  kv_ = *std::move(kv);
  absl::StatusOr<Tensor> last_rows =
      backend.AllocateTensor(backend.activation_type(), sessions, config.hidden);
  if (!last_rows.ok()) return last_rows.status();
  last_rows_ = *last_rows;
  return absl::OkStatus();
}

absl::Status StepExecutor::JoinGroup(Communicator* communicator) {
  LeaveGroup();
  communicator_ = communicator;
  // A collective of a lost rank never ends.
  model_->backend().SetWaitCheck([communicator] { return communicator->Poll(); });
  for (std::optional<KvCache>& cache : caches_) cache.reset();
  if (absl::Status status = chunk_->JoinGroup(*communicator); !status.ok()) return status;
  return decodes_->Record(*communicator);
}

void StepExecutor::LeaveGroup() {
  Backend& backend = model_->backend();
  // What is enqueued ends, or the group has failed and nobody asks for it any more.
  (void)backend.Synchronize();
  // They name the communicator, or use its memory.
  backend.SetWaitCheck(nullptr);
  backend.ForgetRecordings();
  chunk_->LeaveGroup();
  communicator_ = nullptr;
}

absl::Status StepExecutor::Validate(const StepPlan& plan) const {
  StepState state = {
      .layers = layers(), .vocabulary = model_->config().vocabulary, .limits = limits_};
  for (const std::optional<KvCache>& cache : caches_) {
    StepState::Slot& slot = state.slots.emplace_back();
    if (cache.has_value()) slot = {.cascade = cache->cascade(), .has_read = cache->tokens() > 0};
  }
  if (chunk_->in_progress()) {
    state.chunk = {.cache_slot = chunk_->chunk().cache_slot, .layers_left = chunk_->layers_left()};
  }
  return ValidateStepPlan(plan, std::move(state));
}

absl::StatusOr<StepResult> StepExecutor::Execute(const StepPlan& plan) {
  for (const SessionReset& reset : plan.resets) {
    caches_[reset.cache_slot].emplace(reset.cache_slot, reset.cascade);
    if (chunk_->in_progress() && chunk_->chunk().cache_slot == reset.cache_slot) chunk_->Clear();
  }
  DeriveSequences(plan);
  if (check_ranks_agree_ && communicator_->size() > 1) {
    // Before anything is summed: ranks that do different things may wait for each other for ever.
    if (absl::Status status = CheckOthersAgree(plan); !status.ok()) return status;
  }
  StepResult result;
  // All of the step is enqueued before any of it is waited for.
  if (absl::Status status = RunDecodes(); !status.ok()) return status;
  if (absl::Status status = RunChunk(plan, result); !status.ok()) return status;
  if (absl::Status status = ReadNext(plan, result); !status.ok()) return status;
  if (plan.synchronize) {
    if (absl::Status status = model_->backend().Synchronize(); !status.ok()) return status;
  }
  if (plan.inspection.has_value()) {
    absl::StatusOr<std::vector<HeadMemory>> heads = Inspect(*plan.inspection);
    if (!heads.ok()) return heads.status();
    result.heads = *std::move(heads);
  }
  return result;
}

void StepExecutor::DeriveSequences(const StepPlan& plan) {
  lane_tokens_.clear();
  lanes_.clear();
  lane_requests_.clear();
  for (const PlannedDecode& decode : plan.decodes) {
    lane_requests_.push_back(decode.next);
    if (decode.token.has_value()) {
      const int row = static_cast<int>(lane_tokens_.size());
      lane_tokens_.push_back(*decode.token);
      lanes_.push_back(caches_[decode.cache_slot]->Plan(row, 1));
    } else {
      lanes_.push_back({.cache_slot = decode.cache_slot});
    }
  }
  if (plan.chunk.has_value()) {
    const int rows = static_cast<int>(plan.chunk->tokens.size());
    new_chunk_ = caches_[plan.chunk->cache_slot]->Plan(0, rows);
  }
}

absl::Status StepExecutor::CheckOthersAgree(const StepPlan& plan) {
  DerivedStep step = {.plan = plan, .decodes = lanes_};
  if (plan.chunk.has_value()) {
    step.chunk = &new_chunk_;
    step.chunk_layers_left = layers();
  } else if (chunk_->in_progress()) {
    step.chunk = &chunk_->sequence();
    step.chunk_layers_left = chunk_->layers_left();
  }
  return CheckRanksAgree(*communicator_, plan.step, DigestOf(step));
}

absl::Status StepExecutor::RunDecodes() {
  if (lanes_.empty()) return absl::OkStatus();
  absl::Status status = decodes_->Run(*communicator_, lane_tokens_, lanes_, lane_requests_);
  if (!status.ok()) return status;
  for (const SequenceStep& lane : absl::MakeConstSpan(lanes_).first(lane_tokens_.size())) {
    caches_[lane.cache_slot]->Commit(lane);
    Count(lane, layers());
  }
  return absl::OkStatus();
}

absl::Status StepExecutor::RunChunk(const StepPlan& plan, StepResult& result) {
  if (plan.chunk.has_value()) chunk_->Begin(*plan.chunk, std::move(new_chunk_));
  if (plan.chunk_layers == 0) return absl::OkStatus();
  absl::Status status = chunk_->RunLayers(*communicator_, plan.chunk_layers);
  if (!status.ok()) return status;
  Count(chunk_->sequence(), plan.chunk_layers);
  if (chunk_->layers_left() > 0) return absl::OkStatus();

  absl::StatusOr<std::vector<float>> scores = chunk_->Finish(*communicator_);
  if (!scores.ok()) return scores.status();
  result.chunk.emplace();
  result.chunk->scores = *std::move(scores);
  caches_[chunk_->sequence().cache_slot]->Commit(chunk_->sequence());
  return absl::OkStatus();
}

absl::Status StepExecutor::ReadNext(const StepPlan& plan, StepResult& result) {
  const bool any = std::any_of(plan.decodes.begin(), plan.decodes.end(),
                               [](const PlannedDecode& decode) { return decode.next.has_value(); });
  result.decodes.resize(plan.decodes.size());
  if (any) {
    absl::StatusOr<std::vector<LogitsSummary>> lanes = decodes_->Read(*communicator_);
    if (!lanes.ok()) return lanes.status();
    for (size_t lane = 0; lane < lanes->size(); ++lane) {  // none but on rank 0
      if (plan.decodes[lane].next.has_value()) result.decodes[lane] = std::move((*lanes)[lane]);
    }
  }
  if (!result.chunk.has_value()) return absl::OkStatus();
  if (chunk_->chunk().next.has_value()) {
    absl::StatusOr<std::optional<LogitsSummary>> next = chunk_->ReadNext(*communicator_);
    if (!next.ok()) return next.status();
    result.chunk->next = *std::move(next);
  }
  chunk_->Clear();
  return absl::OkStatus();
}

void StepExecutor::Count(const SequenceStep& sequence, int layers) {
  if (arrivals_.size() < sequence.rings.size()) {
    arrivals_.resize(sequence.rings.size(), 0);
    accepts_.resize(sequence.rings.size(), 0);
  }
  for (size_t level = 0; level < sequence.rings.size(); ++level) {
    arrivals_[level] += int64_t{layers} * sequence.rings[level].arrivals;
    accepts_[level] += int64_t{layers} * sequence.rings[level].new_entries();
  }
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

int64_t StepExecutor::bytes_per_session() const {
  return kv_->bytes_per_session() + last_rows_.cols * ElementBytes(last_rows_.type) +
         decodes_->bytes_per_lane();
}

std::vector<SubCacheStats> StepExecutor::SubCacheTotals() const {
  const std::vector<int64_t> swaps = kv_->swaps();
  const int64_t heads = model_->kv_heads();
  std::vector<SubCacheStats> totals(arrivals_.size());
  for (size_t level = 0; level < totals.size(); ++level) {
    totals[level].accepts = accepts_[level] * heads;
    totals[level].swaps = level < swaps.size() ? swaps[level] : 0;
    totals[level].drops = (arrivals_[level] - accepts_[level]) * heads - totals[level].swaps;
  }
  return totals;
}

}  // namespace weir
