#ifndef WEIR_TESTS_TESTING_GGUF_WRITER_H_
#define WEIR_TESTS_TESTING_GGUF_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/weight_type.h"

namespace weir {

// Makes GGUF files for tests: metadata and tensors in the order of the calls. It writes what it is
// told, sound or not (the same name twice, an absurd shape), so that readers can be tried. Keys,
// names and values are copied.
class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  void AddUint32(absl::string_view key, uint32_t value);
  void AddUint64(absl::string_view key, uint64_t value);
  void AddInt32(absl::string_view key, int32_t value);
  void AddFloat32(absl::string_view key, float value);
  void AddFloat64(absl::string_view key, double value);
  void AddBool(absl::string_view key, bool value);
  void AddString(absl::string_view key, absl::string_view value);
  void AddStringArray(absl::string_view key, absl::Span<const std::string> values);
  void AddInt32Array(absl::string_view key, absl::Span<const int32_t> values);
  // A value given as the file format's type number and bytes.
  void AddRaw(absl::string_view key, uint32_t value_type, absl::string_view bytes);

  // A tensor of these values, encoded as `type` (see EncodeWeights). `dims` fastest first.
  void AddTensor(absl::string_view name, WeightType type, std::vector<int64_t> dims,
                 absl::Span<const float> values);
  // A tensor given as the file format's type number and its bytes.
  void AddRawTensor(absl::string_view name, uint32_t file_type, std::vector<int64_t> dims,
                    std::string bytes);
  // As AddRawTensor, but the table tells this data offset instead of the right one.
  void AddMisplacedTensor(absl::string_view name, uint32_t file_type, std::vector<int64_t> dims,
                          std::string bytes, uint64_t offset);

  // Of tensor data; 32 unless told. Does not add general.alignment.
  void set_alignment(uint64_t alignment) { alignment_ = alignment; }

  // The file's bytes.
  std::string Serialize() const;
  // Writes the file, or ends the test program with a message.
  void WriteFile(const std::string& path) const;

 private:
  struct TensorEntry {
    std::string description;  // name, shape and type, as in the file
    std::string bytes;
    bool misplaced = false;
    uint64_t offset = 0;  // if misplaced
  };

  uint32_t version_;
  uint64_t alignment_ = 32;
  uint64_t pairs_ = 0;
  std::string metadata_;
  std::vector<TensorEntry> tensors_;
};

// Writes bytes to a file, or ends the test program with a message.
void WriteFileOrDie(const std::string& path, absl::string_view bytes);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_GGUF_WRITER_H_
