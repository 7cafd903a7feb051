#include "worker/engine/step_validation.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace weir {
namespace {

// Checks one plan, part by part, against a state that it changes as the plan would.
class PlanCheck {
 public:
  explicit PlanCheck(StepState state)
      : state_(std::move(state)), seen_(state_.slots.size(), false) {}

  absl::Status Check(const StepPlan& plan) {
    for (const SessionReset& reset : plan.resets) {
      if (absl::Status valid = CheckReset(reset); !valid.ok()) return valid;
    }
    if (absl::Status valid = CheckChunk(plan); !valid.ok()) return valid;
    bool row = true;
    for (const PlannedDecode& decode : plan.decodes) {
      if (decode.token.has_value() && !row) {
        return absl::InternalError(
            absl::StrCat("a step plan has slot ", decode.cache_slot,
                         ", which reads a token, behind one that reads none"));
      }
      row = decode.token.has_value();
      if (absl::Status valid = CheckDecode(decode); !valid.ok()) return valid;
    }
    return CheckInspection(plan);
  }

 private:
  int slots() const { return static_cast<int>(state_.slots.size()); }

  absl::Status CheckReset(const SessionReset& reset) {
    if (reset.cache_slot < 0 || reset.cache_slot >= slots()) {
      return absl::InternalError(
          absl::StrCat("a step plan resets slot ", reset.cache_slot, " of ", slots()));
    }
    const absl::Status valid = ValidateCascade(reset.cascade, state_.limits);
    if (!valid.ok()) return absl::InternalError(valid.message());
    state_.slots[reset.cache_slot] = {.cascade = reset.cascade};
    if (state_.chunk.has_value() && state_.chunk->cache_slot == reset.cache_slot) {
      state_.chunk.reset();
    }
    return absl::OkStatus();
  }

  absl::Status CheckChunk(const StepPlan& plan) {
    if (plan.chunk.has_value()) {
      const PlannedChunk& chunk = *plan.chunk;
      if (state_.chunk.has_value()) {
        return absl::InternalError(absl::StrCat("a step plan begins a chunk of slot ",
                                                chunk.cache_slot, " while one of slot ",
                                                state_.chunk->cache_slot, " is in progress"));
      }
      if (absl::Status valid = CheckSlot(chunk.cache_slot); !valid.ok()) return valid;
      const int64_t tokens = static_cast<int64_t>(chunk.tokens.size());
      const int stride = state_.slots[chunk.cache_slot].cascade->stride;
      if (tokens < 1 || tokens > stride) {
        return absl::InternalError(absl::StrCat("a step plan has a chunk of ", tokens,
                                                " tokens of slot ", chunk.cache_slot,
                                                ", whose stride is ", stride));
      }
      if (absl::Status valid = CheckTokens(chunk.tokens); !valid.ok()) return valid;
      if (absl::Status valid = CheckRequest(chunk.next); !valid.ok()) return valid;
      if (plan.chunk_layers < 1) {
        return absl::InternalError(
            absl::StrCat("a step plan begins a chunk with ", plan.chunk_layers, " layers"));
      }
      state_.chunk = {.cache_slot = chunk.cache_slot, .layers_left = state_.layers};
    }
    const int left = state_.chunk.has_value() ? state_.chunk->layers_left : 0;
    if (plan.chunk_layers < 0 || plan.chunk_layers > left) {
      return absl::InternalError(absl::StrCat("a step plan runs ", plan.chunk_layers,
                                              " layers of a chunk that has ", left, " left"));
    }
    if (state_.chunk.has_value()) {
      seen_[state_.chunk->cache_slot] = true;
      state_.chunk->layers_left -= plan.chunk_layers;
    }
    return absl::OkStatus();
  }

  absl::Status CheckDecode(const PlannedDecode& decode) {
    if (absl::Status valid = CheckSlot(decode.cache_slot); !valid.ok()) return valid;
    if (seen_[decode.cache_slot]) {
      return absl::InternalError(
          absl::StrCat("a step plan has slot ", decode.cache_slot, " twice"));
    }
    seen_[decode.cache_slot] = true;
    if (absl::Status valid = CheckRequest(decode.next); !valid.ok()) return valid;
    if (decode.token.has_value()) return CheckTokens({&*decode.token, 1});
    if (!decode.next.has_value() || !state_.slots[decode.cache_slot].has_read) {
      return absl::InternalError(
          absl::StrCat("a step plan has nothing to do for slot ", decode.cache_slot));
    }
    return absl::OkStatus();
  }

  absl::Status CheckInspection(const StepPlan& plan) const {
    if (!plan.inspection.has_value()) return absl::OkStatus();
    const Inspection& inspection = *plan.inspection;
    if (absl::Status valid = CheckSlot(inspection.cache_slot); !valid.ok()) return valid;
    // Between two layers of a chunk a session's layers disagree.
    const bool in_chunk = state_.chunk.has_value() && state_.chunk->layers_left > 0 &&
                          state_.chunk->cache_slot == inspection.cache_slot;
    if (in_chunk || inspection.layer < 0 || inspection.layer >= state_.layers) {
      return absl::InternalError(absl::StrCat("a step plan inspects slot ", inspection.cache_slot,
                                              ", layer ", inspection.layer,
                                              in_chunk ? ", while it reads a chunk" : ""));
    }
    return absl::OkStatus();
  }

  absl::Status CheckSlot(int slot) const {
    if (slot >= 0 && slot < slots() && state_.slots[slot].cascade.has_value()) {
      return absl::OkStatus();
    }
    return absl::InternalError(
        absl::StrCat("a step plan names slot ", slot, ", which is not used"));
  }

  absl::Status CheckTokens(absl::Span<const int32_t> tokens) const {
    for (int32_t token : tokens) {
      if (token < 0 || token >= state_.vocabulary) {
        return absl::InternalError(
            absl::StrCat("a step plan has token ", token, "; there are ", state_.vocabulary));
      }
    }
    return absl::OkStatus();
  }

  static absl::Status CheckRequest(const std::optional<LikeliestRequest>& request) {
    if (!request.has_value()) return absl::OkStatus();
    if (request->likeliest < 1 || request->likeliest > kMostLikeliest) {
      return absl::InternalError(absl::StrCat("a step plan asks for ", request->likeliest,
                                              " likeliest tokens; it may be 1 to ",
                                              kMostLikeliest));
    }
    if (!(request->inverse_temperature > 0) || std::isinf(request->inverse_temperature)) {
      return absl::InternalError(
          absl::StrCat("a step plan has the inverse temperature ", request->inverse_temperature));
    }
    return absl::OkStatus();
  }

  StepState state_;
  std::vector<bool> seen_;  // by slot: it takes part in the step
};

}  // namespace

absl::Status ValidateStepPlan(const StepPlan& plan, StepState state) {
  return PlanCheck(std::move(state)).Check(plan);
}

}  // namespace weir
