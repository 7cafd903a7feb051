#include "worker/model/json_object_reader.h"

#include "absl/strings/str_cat.h"
#include "worker/model/byte_reader.h"

namespace weir {
namespace {

std::string Describe(const nlohmann::json& value) {
  if (value.is_number()) return value.dump();
  if (value.is_string()) return QuoteName(value.get_ref<const std::string&>());
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  return value.is_array() ? "an array" : "an object";
}

}  // namespace

const nlohmann::json* JsonObjectReader::Find(absl::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonObjectReader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void JsonObjectReader::FailMissing(absl::string_view key) {
  Fail(absl::InvalidArgumentError(absl::StrCat(name_, ": ", key, " is missing")));
}

void JsonObjectReader::FailValue(absl::string_view key, const nlohmann::json& value,
                                 absl::string_view wanted) {
  Fail(absl::InvalidArgumentError(
      absl::StrCat(name_, ": ", key, " is ", Describe(value), "; it must be ", wanted)));
}

int64_t JsonObjectReader::Integer(absl::string_view key, int64_t low, int64_t high,
                                  std::optional<int64_t> missing) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    if (!missing.has_value()) FailMissing(key);
    return missing.value_or(low);
  }
  // What does not fit an int64 is unsigned, or no integer any more.
  const bool fits =
      value->is_number_integer() &&
      (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    FailValue(key, *value, absl::StrCat("an integer from ", low, " to ", high));
    return low;
  }
  return value->get<int64_t>();
}

double JsonObjectReader::Number(absl::string_view key, double low, double high,
                                std::optional<double> missing) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    if (!missing.has_value()) FailMissing(key);
    return missing.value_or(low);
  }
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    FailValue(key, *value, absl::StrCat("a number from ", low, " to ", high));
    return low;
  }
  return value->get<double>();
}

bool JsonObjectReader::Bool(absl::string_view key, bool missing) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return missing;
  if (!value->is_boolean()) {
    FailValue(key, *value, "true or false");
    return missing;
  }
  return value->get<bool>();
}

std::string JsonObjectReader::String(absl::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return "";
  if (!value->is_string()) {
    FailValue(key, *value, "a string");
    return "";
  }
  return value->get<std::string>();
}

const nlohmann::json* JsonObjectReader::Object(absl::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value != nullptr && !value->is_object()) {
    FailValue(key, *value, "an object");
    return nullptr;
  }
  return value;
}

std::string JsonObjectReader::OnlyString(absl::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    FailMissing(key);
    return "";
  }
  if (!value->is_array() || value->size() != 1 || !value->front().is_string()) {
    FailValue(key, *value, "an array of one string");
    return "";
  }
  return value->front().get<std::string>();
}

}  // namespace weir
