#ifndef WEIR_WORKER_MODEL_BYTE_READER_H_
#define WEIR_WORKER_MODEL_BYTE_READER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weir {

// Reads little-endian values one after another from a file's bytes and never past their end.
//
// The first failure sticks: from then on every read returns zero or empty and `status()` tells what
// went wrong, so a sequence of reads is checked once, before its values are acted upon. Views that
// it returns point into the bytes. `what` names the thing being read, for the message.
class ByteReader {
 public:
  ByteReader(std::string file_name, absl::Span<const std::byte> bytes)
      : file_name_(std::move(file_name)), bytes_(bytes) {}

  template <typename T>
  T Read(absl::string_view what) {
    T value{};
    const absl::Span<const std::byte> raw = ReadBytes(sizeof(T), what);
    if (raw.size() == sizeof(T)) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }

  absl::Span<const std::byte> ReadBytes(uint64_t size, absl::string_view what);

  // A 64-bit length and that many bytes.
  absl::string_view ReadString(absl::string_view what);

  // A 64-bit count of things that take at least `least_bytes` each; fails when they cannot all be
  // in what is left of the file, so the count is safe to reserve memory for.
  uint64_t ReadCount(uint64_t least_bytes, absl::string_view what);

  // Records a failure, unless there was one already.
  void Fail(absl::Status status);

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  uint64_t offset() const { return offset_; }
  const std::string& file_name() const { return file_name_; }

 private:
  uint64_t remaining() const { return bytes_.size() - offset_; }

  std::string file_name_;
  absl::Span<const std::byte> bytes_;
  uint64_t offset_ = 0;
  absl::Status status_;
};

// A name found in a file, made fit for a message: quoted, invalid UTF-8 replaced, control
// characters escaped, cut to a sane length.
std::string QuoteName(absl::string_view name);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_BYTE_READER_H_
