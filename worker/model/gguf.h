#ifndef WEIR_WORKER_MODEL_GGUF_H_
#define WEIR_WORKER_MODEL_GGUF_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/weight_type.h"
#include "worker/model/byte_reader.h"
#include "worker/model/gguf_types.h"

namespace weir {

// One tensor of a model. `data` lives as long as the GgufFile.
struct GgufTensor {
  absl::string_view name;
  WeightType type = WeightType::kF32;
  // Fastest dimension first, as in the file: a linear map is {inputs, outputs}.
  std::vector<int64_t> dims;
  const std::byte* data = nullptr;
  int64_t size = 0;  // bytes
};

// A model that was made in memory instead of a file.
struct GgufMemory {
  std::string header;                 // how a file begins, magic number to tensor table
  std::unique_ptr<std::byte[]> data;  // what the tensors' offsets count from
  uint64_t data_size = 0;             // bytes
};

// A model file in GGUF format, version 2 or 3, little-endian: typed metadata and named tensors.
// (The format: github.com/ggml-org/ggml, docs/gguf.md.)
//
// A file is taken as hostile: Open verifies every length, count, type, offset and product against
// the file's size before it uses it, and refuses what is truncated, contradicts itself or holds a
// tensor of a type that Weir does not read. What Open returns is safe to walk. Error messages are
// one sentence that names the file, the thing and the offset. Immutable, thread-safe.
class GgufFile {
 public:
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // A model without a file; `name` takes the path's place. Verified as a file is, but here tensors
  // may share data.
  static absl::StatusOr<std::unique_ptr<GgufFile>> FromMemory(std::string name, GgufMemory memory);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  // Bytes of header and data.
  int64_t size() const { return static_cast<int64_t>(size_); }

  // ---- Metadata. NOT_FOUND when the key is missing, INVALID_ARGUMENT when its value is of another
  // type or out of range; messages name key and file. Views live as long as this object. ----

  bool Has(absl::string_view key) const { return values_.contains(key); }
  // Any integer type, not negative.
  absl::StatusOr<uint64_t> GetUint(absl::string_view key) const;
  // float32 or float64.
  absl::StatusOr<double> GetFloat(absl::string_view key) const;
  absl::StatusOr<bool> GetBool(absl::string_view key) const;
  absl::StatusOr<absl::string_view> GetString(absl::string_view key) const;
  absl::StatusOr<std::vector<absl::string_view>> GetStringArray(absl::string_view key) const;
  // An array of any integer type.
  absl::StatusOr<std::vector<int64_t>> GetIntArray(absl::string_view key) const;

  // The same, but `missing` when the file has no such key.
  absl::StatusOr<uint64_t> GetUintOr(absl::string_view key, uint64_t missing) const;
  absl::StatusOr<double> GetFloatOr(absl::string_view key, double missing) const;
  absl::StatusOr<bool> GetBoolOr(absl::string_view key, bool missing) const;
  absl::StatusOr<absl::string_view> GetStringOr(absl::string_view key,
                                                absl::string_view missing) const;

  // ---- Tensors, in the file's order. ----

  absl::Span<const GgufTensor> tensors() const { return tensors_; }
  // Null when there is none of that name.
  const GgufTensor* Find(absl::string_view name) const;

  // A hash of the size, all of its metadata and tensor table, and samples of every tensor's
  // data; the same in every process. It tells different models apart by mistake made, not by
  // malice: ranks compare it to find out that they loaded different files. Takes milliseconds.
  uint64_t Fingerprint() const;

 private:
  // A metadata value, left where it lies in the file.
  struct Value {
    GgufValueType type = GgufValueType::kUint8;
    GgufValueType element_type = GgufValueType::kUint8;  // of an array
    uint64_t count = 1;                                  // elements of an array
    absl::Span<const std::byte> bytes;                   // the value, or an array's elements
  };

  // `storage` owns `bytes`, which begin with the header, and the tensors' data.
  GgufFile(std::string path, std::shared_ptr<const void> storage,
           absl::Span<const std::byte> bytes);

  // Reads everything but the tensors' data, of which there are at most `room` bytes; yields where
  // in the data each tensor begins.
  absl::StatusOr<std::vector<uint64_t>> ParseHeader(uint64_t room);
  void ParseValue(ByteReader& reader, absl::string_view key);
  // Steps over the elements of an array; arrays may nest, `depth` levels so far.
  void SkipElements(ByteReader& reader, GgufValueType type, uint64_t count, int depth,
                    absl::string_view key);
  void ParseTensorInfo(ByteReader& reader, uint64_t room, std::vector<uint64_t>& offsets);
  absl::Status PlaceTensors(const std::vector<uint64_t>& offsets, absl::Span<const std::byte> data);
  absl::Status CheckNoOverlap() const;

  absl::StatusOr<const Value*> FindValue(absl::string_view key) const;
  absl::Status WrongType(absl::string_view key, const Value& value, absl::string_view wanted) const;

  std::string path_;
  std::shared_ptr<const void> storage_;
  absl::Span<const std::byte> bytes_;  // the file or, without one, the header
  uint64_t size_ = 0;
  uint32_t version_ = 0;
  uint64_t alignment_ = 0;   // of tensor data, bytes
  uint64_t data_start_ = 0;  // offset of the tensor data in the file
  absl::flat_hash_map<absl::string_view, Value> values_;
  std::vector<GgufTensor> tensors_;
  absl::flat_hash_map<absl::string_view, size_t> tensor_index_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_GGUF_H_
