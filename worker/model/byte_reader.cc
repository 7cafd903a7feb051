#include "worker/model/byte_reader.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "worker/model/utf8.h"

namespace weir {

absl::Span<const std::byte> ByteReader::ReadBytes(uint64_t size, absl::string_view what) {
  if (!ok()) return {};
  if (size > remaining()) {
    Fail(absl::InvalidArgumentError(absl::StrCat(
        file_name_, " is truncated or corrupt: ", what, " needs ", size, " bytes at offset ",
        offset_, ", but only ", remaining(), " of the file's ", bytes_.size(), " remain")));
    return {};
  }
  const absl::Span<const std::byte> read = bytes_.subspan(offset_, size);
  offset_ += size;
  return read;
}

absl::string_view ByteReader::ReadString(absl::string_view what) {
  const uint64_t length = Read<uint64_t>(what);
  const absl::Span<const std::byte> text = ReadBytes(length, what);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

uint64_t ByteReader::ReadCount(uint64_t least_bytes, absl::string_view what) {
  const uint64_t count = Read<uint64_t>(what);
  if (!ok()) return 0;
  if (count > remaining() / least_bytes) {
    Fail(absl::InvalidArgumentError(absl::StrCat(
        file_name_, " is truncated or corrupt: ", what, " is ", count, " at offset ",
        offset_ - sizeof(count), ", more than the remaining ", remaining(), " bytes can hold")));
    return 0;
  }
  return count;
}

void ByteReader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

std::string QuoteName(absl::string_view name) {
  constexpr size_t kLongest = 80;
  std::string valid;
  AppendValidUtf8(name.substr(0, kLongest), &valid);
  return absl::StrCat("'", absl::Utf8SafeCHexEscape(valid), name.size() > kLongest ? "...'" : "'");
}

}  // namespace weir
