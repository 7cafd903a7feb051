#ifndef WEIR_WORKER_MODEL_MAPPED_FILE_H_
#define WEIR_WORKER_MODEL_MAPPED_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

// A whole file mapped read-only into memory; unmapped when destroyed. Pages are read from disk when
// they are first touched and stay shared with every other process that maps the file. The file must
// not shrink while it is mapped. Thread-safe.
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for what is not a regular file; the message
  // names the path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_MAPPED_FILE_H_
