#include "worker/model/gguf.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/model/fnv1a.h"

namespace weir {
namespace {

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// Where and how wide the integers of one type are; width 0 for types that are not integers.
struct IntegerForm {
  int width = 0;
  bool is_signed = false;
};

IntegerForm IntegerFormOf(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
      return {1, false};
    case GgufValueType::kInt8:
      return {1, true};
    case GgufValueType::kUint16:
      return {2, false};
    case GgufValueType::kInt16:
      return {2, true};
    case GgufValueType::kUint32:
      return {4, false};
    case GgufValueType::kInt32:
      return {4, true};
    case GgufValueType::kUint64:
      return {8, false};
    case GgufValueType::kInt64:
      return {8, true};
    default:
      return {};
  }
}

// The integer of this form at `from`, sign-extended; a uint64 keeps its bits.
int64_t LoadInteger(IntegerForm form, const std::byte* from) {
  switch (form.width) {
    case 1:
      return form.is_signed ? Load<int8_t>(from) : int64_t{Load<uint8_t>(from)};
    case 2:
      return form.is_signed ? Load<int16_t>(from) : int64_t{Load<uint16_t>(from)};
    case 4:
      return form.is_signed ? Load<int32_t>(from) : int64_t{Load<uint32_t>(from)};
    default:
      return Load<int64_t>(from);
  }
}

}  // namespace

GgufFile::GgufFile(std::string path, std::shared_ptr<const void> storage,
                   absl::Span<const std::byte> bytes)
    : path_(std::move(path)), storage_(std::move(storage)), bytes_(bytes), size_(bytes.size()) {}

absl::StatusOr<const GgufFile::Value*> GgufFile::FindValue(absl::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    return absl::NotFoundError(absl::StrCat(path_, " has no metadata value '", key, "'"));
  }
  return &found->second;
}

absl::Status GgufFile::WrongType(absl::string_view key, const Value& value,
                                 absl::string_view wanted) const {
  const bool array = value.type == GgufValueType::kArray;
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ": metadata value '", key, "' is ", array ? "an array of " : "a ",
                   GgufTypeName(array ? value.element_type : value.type), ", not ", wanted));
}

absl::StatusOr<uint64_t> GgufFile::GetUint(absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  const IntegerForm form = IntegerFormOf((*value)->type);
  if (form.width == 0) return WrongType(key, **value, "an integer");
  const int64_t integer = LoadInteger(form, (*value)->bytes.data());
  if (form.is_signed && integer < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": metadata value '", key, "' is ", integer, ", below zero"));
  }
  return static_cast<uint64_t>(integer);
}

absl::StatusOr<double> GgufFile::GetFloat(absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  if ((*value)->type == GgufValueType::kFloat32) return Load<float>((*value)->bytes.data());
  if ((*value)->type == GgufValueType::kFloat64) return Load<double>((*value)->bytes.data());
  return WrongType(key, **value, "a float");
}

absl::StatusOr<bool> GgufFile::GetBool(absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  if ((*value)->type != GgufValueType::kBool) return WrongType(key, **value, "a bool");
  return (*value)->bytes[0] != std::byte{0};
}

absl::StatusOr<absl::string_view> GgufFile::GetString(absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  if ((*value)->type != GgufValueType::kString) return WrongType(key, **value, "a string");
  const absl::Span<const std::byte> bytes = (*value)->bytes;
  return absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

absl::StatusOr<std::vector<absl::string_view>> GgufFile::GetStringArray(
    absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  if ((*value)->type != GgufValueType::kArray || (*value)->element_type != GgufValueType::kString) {
    return WrongType(key, **value, "an array of strings");
  }
  std::vector<absl::string_view> strings;
  strings.reserve((*value)->count);
  ByteReader reader(path_, (*value)->bytes);
  for (uint64_t i = 0; i < (*value)->count; ++i) strings.push_back(reader.ReadString(key));
  return strings;
}

absl::StatusOr<std::vector<int64_t>> GgufFile::GetIntArray(absl::string_view key) const {
  const absl::StatusOr<const Value*> value = FindValue(key);
  if (!value.ok()) return value.status();
  const IntegerForm form = IntegerFormOf((*value)->element_type);
  if ((*value)->type != GgufValueType::kArray || form.width == 0) {
    return WrongType(key, **value, "an array of integers");
  }
  std::vector<int64_t> integers;
  integers.reserve((*value)->count);
  for (uint64_t i = 0; i < (*value)->count; ++i) {
    integers.push_back(LoadInteger(form, (*value)->bytes.data() + i * form.width));
    if (form.width == 8 && !form.is_signed && integers.back() < 0) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ": element ", i, " of metadata value '",
                                                     key, "' is beyond 2^63 - 1"));
    }
  }
  return integers;
}

absl::StatusOr<uint64_t> GgufFile::GetUintOr(absl::string_view key, uint64_t missing) const {
  return Has(key) ? GetUint(key) : missing;
}

absl::StatusOr<double> GgufFile::GetFloatOr(absl::string_view key, double missing) const {
  return Has(key) ? GetFloat(key) : missing;
}

absl::StatusOr<bool> GgufFile::GetBoolOr(absl::string_view key, bool missing) const {
  return Has(key) ? GetBool(key) : missing;
}

absl::StatusOr<absl::string_view> GgufFile::GetStringOr(absl::string_view key,
                                                        absl::string_view missing) const {
  return Has(key) ? GetString(key) : missing;
}

const GgufTensor* GgufFile::Find(absl::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

uint64_t GgufFile::Fingerprint() const {
  constexpr uint64_t kSampleBytes = 256;
  Fnv1a hash;
  hash.Add(size_);
  hash.Add(bytes_.subspan(0, data_start_));
  for (const GgufTensor& tensor : tensors_) {
    const absl::Span<const std::byte> data(tensor.data, static_cast<size_t>(tensor.size));
    hash.Add(data.subspan(0, kSampleBytes));
    hash.Add(data.subspan(data.size() / 2, kSampleBytes));
    hash.Add(data.last(std::min<size_t>(kSampleBytes, data.size())));
  }
  return hash.value();
}

}  // namespace weir
