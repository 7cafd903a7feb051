#ifndef WEIR_WORKER_MODEL_GGUF_HEADER_H_
#define WEIR_WORKER_MODEL_GGUF_HEADER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/weight_type.h"

namespace weir {

// Writes how a GGUF file begins, metadata and tensor table, for a model whose tensors' data is
// elsewhere (GgufFile::FromMemory). Copies what it is given; every key and name once.
class GgufHeader {
 public:
  void AddUint32(absl::string_view key, uint32_t value);
  void AddFloat32(absl::string_view key, float value);
  void AddBool(absl::string_view key, bool value);
  void AddString(absl::string_view key, absl::string_view value);
  void AddStringArray(absl::string_view key, absl::Span<const std::string> values);
  void AddInt32Array(absl::string_view key, absl::Span<const int32_t> values);

  // `dims` fastest first; `offset` into the data, a multiple of kAlignment.
  void AddTensor(absl::string_view name, WeightType type, absl::Span<const int64_t> dims,
                 uint64_t offset);

  std::string Serialize() const;

  // Of tensor data, bytes.
  static constexpr uint64_t kAlignment = 32;

 private:
  std::string pairs_;
  uint64_t pair_count_ = 0;
  std::string tensors_;
  uint64_t tensor_count_ = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_GGUF_HEADER_H_
