#include "worker/model/gguf_header.h"

#include <bit>
#include <cassert>

#include "worker/model/gguf_types.h"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string& out, absl::string_view text) {
  Put<uint64_t>(out, text.size());
  out.append(text.data(), text.size());
}

void PutKey(std::string& out, absl::string_view key, GgufValueType type) {
  PutString(out, key);
  Put(out, type);
}

void PutArrayKey(std::string& out, absl::string_view key, GgufValueType type, uint64_t count) {
  PutKey(out, key, GgufValueType::kArray);
  Put(out, type);
  Put(out, count);
}

}  // namespace

void GgufHeader::AddUint32(absl::string_view key, uint32_t value) {
  PutKey(pairs_, key, GgufValueType::kUint32);
  Put(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddFloat32(absl::string_view key, float value) {
  PutKey(pairs_, key, GgufValueType::kFloat32);
  Put(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddBool(absl::string_view key, bool value) {
  PutKey(pairs_, key, GgufValueType::kBool);
  Put<uint8_t>(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddString(absl::string_view key, absl::string_view value) {
  PutKey(pairs_, key, GgufValueType::kString);
  PutString(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddStringArray(absl::string_view key, absl::Span<const std::string> values) {
  PutArrayKey(pairs_, key, GgufValueType::kString, values.size());
  for (const std::string& value : values) PutString(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddInt32Array(absl::string_view key, absl::Span<const int32_t> values) {
  PutArrayKey(pairs_, key, GgufValueType::kInt32, values.size());
  for (const int32_t value : values) Put(pairs_, value);
  ++pair_count_;
}

void GgufHeader::AddTensor(absl::string_view name, WeightType type, absl::Span<const int64_t> dims,
                           uint64_t offset) {
  assert(offset % kAlignment == 0);
  PutString(tensors_, name);
  Put(tensors_, static_cast<uint32_t>(dims.size()));
  for (const int64_t dim : dims) Put(tensors_, dim);
  Put(tensors_, GgufOfWeightType(type));
  Put(tensors_, offset);
  ++tensor_count_;
}

std::string GgufHeader::Serialize() const {
  std::string header = "GGUF";
  header.reserve(64 + pairs_.size() + tensors_.size());
  Put<uint32_t>(header, 3);  // the format's version
  Put(header, tensor_count_);
  Put(header, pair_count_ + 1);
  PutKey(header, "general.alignment", GgufValueType::kUint32);
  Put(header, static_cast<uint32_t>(kAlignment));
  return header + pairs_ + tensors_;
}

}  // namespace weir
