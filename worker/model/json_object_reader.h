#ifndef WEIR_WORKER_MODEL_JSON_OBJECT_READER_H_
#define WEIR_WORKER_MODEL_JSON_OBJECT_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace weir {

// Reads the values of a JSON object that somebody else wrote.
//
// The first failure sticks: from then on every read returns its lower bound or nothing, and
// `status()` tells what went wrong, so a sequence of reads is checked once, before its values are
// acted upon. A key whose value is null counts as missing.
class JsonObjectReader {
 public:
  // `name` says where the object is, for messages: a path and, if it is nested, its key. `object`,
  // an object, outlives this one.
  JsonObjectReader(std::string name, const nlohmann::json& object)
      : name_(std::move(name)), object_(object) {}

  bool Has(absl::string_view key) const { return Find(key) != nullptr; }

  // An integer from `low` to `high`; `missing`, if there is one, when the key is not there.
  int64_t Integer(absl::string_view key, int64_t low, int64_t high,
                  std::optional<int64_t> missing = std::nullopt);
  // A number, integers included.
  double Number(absl::string_view key, double low, double high,
                std::optional<double> missing = std::nullopt);
  bool Bool(absl::string_view key, bool missing);
  // Empty when it is missing.
  std::string String(absl::string_view key);
  // Null when it is missing.
  const nlohmann::json* Object(absl::string_view key);
  // The only element of an array of one string.
  std::string OnlyString(absl::string_view key);

  // Records a failure, unless there was one already.
  void Fail(absl::Status status);
  const absl::Status& status() const { return status_; }
  const std::string& name() const { return name_; }

 private:
  // Null when it is missing.
  const nlohmann::json* Find(absl::string_view key) const;
  void FailMissing(absl::string_view key);
  // `wanted` such as "an integer from 1 to 3".
  void FailValue(absl::string_view key, const nlohmann::json& value, absl::string_view wanted);

  const std::string name_;
  const nlohmann::json& object_;
  absl::Status status_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_JSON_OBJECT_READER_H_
