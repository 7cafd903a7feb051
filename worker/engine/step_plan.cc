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

constexpr uint32_t kMagic = 0x33505357;  // "WSP3"

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

// Bytes of a reset and, at least, of a decode.
constexpr uint64_t kResetBytes = 4 + 4 * 4 + 8 + 1;
constexpr uint64_t kDecodeBytes = 4 + 1 + 4;

constexpr uint8_t kNextFlag = 1;
constexpr uint8_t kScoreFlag = 2;
constexpr uint8_t kTokenFlag = 4;

void Put(const LikeliestRequest& request, std::string& out) {
  Put<uint64_t>(request.seed, out);
  Put<uint64_t>(request.index, out);
  Put<float>(request.inverse_temperature, out);
  Put<int32_t>(request.likeliest, out);
  Put<int32_t>(request.target, out);
  Put<uint8_t>(request.draw, out);
}

LikeliestRequest ReadRequest(ByteReader& reader) {
  LikeliestRequest request;
  request.seed = reader.Read<uint64_t>("seed");
  request.index = reader.Read<uint64_t>("index");
  request.inverse_temperature = reader.Read<float>("inverse temperature");
  request.likeliest = reader.Read<int32_t>("likeliest tokens");
  request.target = reader.Read<int32_t>("target");
  request.draw = reader.Read<uint8_t>("draw") != 0;
  return request;
}

void Put(const PlannedDecode& decode, std::string& out) {
  Put<int32_t>(decode.cache_slot, out);
  Put<uint8_t>(
      (decode.next.has_value() ? kNextFlag : 0) | (decode.token.has_value() ? kTokenFlag : 0), out);
  Put<int32_t>(decode.token.value_or(0), out);
  if (decode.next.has_value()) Put(*decode.next, out);
}

PlannedDecode ReadDecode(ByteReader& reader) {
  PlannedDecode decode;
  decode.cache_slot = reader.Read<int32_t>("slot of a decode");
  const uint8_t flags = reader.Read<uint8_t>("flags");
  const int32_t token = reader.Read<int32_t>("token");
  if ((flags & kTokenFlag) != 0) decode.token = token;
  if ((flags & kNextFlag) != 0) decode.next = ReadRequest(reader);
  return decode;
}

void Put(const PlannedChunk& chunk, std::string& out) {
  Put<int32_t>(chunk.cache_slot, out);
  Put<uint8_t>((chunk.next.has_value() ? kNextFlag : 0) | (chunk.score ? kScoreFlag : 0), out);
  Put<uint64_t>(chunk.tokens.size(), out);
  for (int32_t token : chunk.tokens) Put<int32_t>(token, out);
  if (chunk.next.has_value()) Put(*chunk.next, out);
}

PlannedChunk ReadChunk(ByteReader& reader) {
  PlannedChunk chunk;
  chunk.cache_slot = reader.Read<int32_t>("slot of a chunk");
  const uint8_t flags = reader.Read<uint8_t>("flags");
  chunk.score = (flags & kScoreFlag) != 0;
  chunk.tokens.resize(reader.ReadCount(sizeof(int32_t), "tokens"));
  for (int32_t& token : chunk.tokens) token = reader.Read<int32_t>("token");
  if ((flags & kNextFlag) != 0) chunk.next = ReadRequest(reader);
  return chunk;
}

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
  Put<uint64_t>(plan.decodes.size(), out);
  for (const PlannedDecode& decode : plan.decodes) Put(decode, out);
  Put<uint8_t>(plan.chunk.has_value(), out);
  if (plan.chunk.has_value()) Put(*plan.chunk, out);
  Put<int32_t>(plan.chunk_layers, out);
  Put<uint8_t>(plan.synchronize, out);
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
  plan.decodes.resize(reader.ReadCount(kDecodeBytes, "decodes"));
  for (PlannedDecode& decode : plan.decodes) decode = ReadDecode(reader);
  if (reader.Read<uint8_t>("chunk flag") != 0) plan.chunk = ReadChunk(reader);
  plan.chunk_layers = reader.Read<int32_t>("layers of a chunk");
  plan.synchronize = reader.Read<uint8_t>("synchronize") != 0;
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
