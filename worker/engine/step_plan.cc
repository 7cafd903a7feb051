#include "worker/engine/step_plan.h"

#include <bit>
#include <cstddef>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "worker/model/byte_reader.h"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMagic = 0x31505357;  // "WSP1"

template <typename T>
void Put(T value, std::string& out) {
  static_assert(std::is_arithmetic_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void Put(const CascadeConfig& cascade, std::string& out) {
  Put<int32_t>(cascade.sinks, out);
  Put<int32_t>(cascade.slots, out);
  Put<int32_t>(cascade.sub_caches, out);
  Put<int32_t>(cascade.stride, out);
  Put<double>(cascade.beta, out);
  Put<uint8_t>(cascade.head_reduction == HeadReduction::kMean, out);
}

CascadeConfig ReadCascade(ByteReader& reader) {
  CascadeConfig cascade;
  cascade.sinks = reader.Read<int32_t>("sinks");
  cascade.slots = reader.Read<int32_t>("slots");
  cascade.sub_caches = reader.Read<int32_t>("sub_caches");
  cascade.stride = reader.Read<int32_t>("stride");
  cascade.beta = reader.Read<double>("beta");
  const bool mean = reader.Read<uint8_t>("head_reduction") != 0;
  cascade.head_reduction = mean ? HeadReduction::kMean : HeadReduction::kMax;
  return cascade;
}

// Bytes of a reset and, without its tokens, of a sequence.
constexpr uint64_t kResetBytes = 4 + 4 * 4 + 8 + 1;
constexpr uint64_t kSequenceBytes = 4 + 1 + 8;

constexpr uint8_t kLogitsFlag = 1;
constexpr uint8_t kScoreFlag = 2;

}  // namespace

std::string SerializeStepPlan(const StepPlan& plan) {
  std::string out;
  Put<uint32_t>(kMagic, out);
  Put<int64_t>(plan.step, out);
  Put<uint8_t>(plan.stop, out);
  Put<uint64_t>(plan.resets.size(), out);
  for (const SessionReset& reset : plan.resets) {
    Put<int32_t>(reset.cache_slot, out);
    Put(reset.cascade, out);
  }
  Put<uint64_t>(plan.sequences.size(), out);
  for (const PlannedSequence& sequence : plan.sequences) {
    Put<int32_t>(sequence.cache_slot, out);
    Put<uint8_t>((sequence.logits ? kLogitsFlag : 0) | (sequence.score ? kScoreFlag : 0), out);
    Put<uint64_t>(sequence.tokens.size(), out);
    for (int32_t token : sequence.tokens) Put<int32_t>(token, out);
  }
  Put<uint8_t>(plan.inspection.has_value(), out);
  if (plan.inspection.has_value()) {
    Put<int32_t>(plan.inspection->cache_slot, out);
    Put<int32_t>(plan.inspection->layer, out);
  }
  return out;
}

absl::StatusOr<StepPlan> ParseStepPlan(absl::string_view bytes) {
  ByteReader reader("step plan",
                    absl::MakeSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
  if (reader.Read<uint32_t>("magic number") != kMagic) {
    return absl::InternalError("the leader sent something that is not a step plan");
  }
  StepPlan plan;
  plan.step = reader.Read<int64_t>("step");
  plan.stop = reader.Read<uint8_t>("stop") != 0;
  plan.resets.resize(reader.ReadCount(kResetBytes, "resets"));
  for (SessionReset& reset : plan.resets) {
    reset.cache_slot = reader.Read<int32_t>("slot of a reset");
    reset.cascade = ReadCascade(reader);
  }
  plan.sequences.resize(reader.ReadCount(kSequenceBytes, "sequences"));
  for (PlannedSequence& sequence : plan.sequences) {
    sequence.cache_slot = reader.Read<int32_t>("slot of a sequence");
    const uint8_t flags = reader.Read<uint8_t>("flags");
    sequence.logits = (flags & kLogitsFlag) != 0;
    sequence.score = (flags & kScoreFlag) != 0;
    sequence.tokens.resize(reader.ReadCount(sizeof(int32_t), "tokens"));
    for (int32_t& token : sequence.tokens) token = reader.Read<int32_t>("token");
  }
  if (reader.Read<uint8_t>("inspection flag") != 0) {
    plan.inspection.emplace();
    plan.inspection->cache_slot = reader.Read<int32_t>("slot of an inspection");
    plan.inspection->layer = reader.Read<int32_t>("layer of an inspection");
  }
  if (!reader.ok()) return absl::InternalError(reader.status().message());
  if (reader.offset() != bytes.size()) {
    return absl::InternalError(
        absl::StrCat("a step plan ends at byte ", reader.offset(), " of ", bytes.size()));
  }
  return plan;
}

}  // namespace weir
