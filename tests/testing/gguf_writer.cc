#include "tests/testing/gguf_writer.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "tests/testing/encode_weights.h"

namespace weir {
namespace {

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string& out, absl::string_view text) {
  Put<uint64_t>(out, text.size());
  out.append(text.data(), text.size());
}

template <typename T>
std::string Bytes(T value) {
  std::string out;
  Put(out, value);
  return out;
}

uint32_t FileType(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 0;
    case WeightType::kF16:
      return 1;
    case WeightType::kBF16:
      return 30;
    case WeightType::kQ8_0:
      return 8;
    case WeightType::kQ4_0:
      return 2;
    case WeightType::kQ4_1:
      return 3;
  }
  std::abort();
}

}  // namespace

void GgufWriter::AddRaw(absl::string_view key, uint32_t value_type, absl::string_view bytes) {
  PutString(metadata_, key);
  Put(metadata_, value_type);
  metadata_.append(bytes.data(), bytes.size());
  ++pairs_;
}

void GgufWriter::AddUint32(absl::string_view key, uint32_t value) { AddRaw(key, 4, Bytes(value)); }
void GgufWriter::AddInt32(absl::string_view key, int32_t value) { AddRaw(key, 5, Bytes(value)); }
void GgufWriter::AddFloat32(absl::string_view key, float value) { AddRaw(key, 6, Bytes(value)); }
void GgufWriter::AddBool(absl::string_view key, bool value) {
  AddRaw(key, 7, Bytes<uint8_t>(value));
}
void GgufWriter::AddUint64(absl::string_view key, uint64_t value) { AddRaw(key, 10, Bytes(value)); }
void GgufWriter::AddFloat64(absl::string_view key, double value) { AddRaw(key, 12, Bytes(value)); }

void GgufWriter::AddString(absl::string_view key, absl::string_view value) {
  std::string bytes;
  PutString(bytes, value);
  AddRaw(key, 8, bytes);
}

void GgufWriter::AddStringArray(absl::string_view key, absl::Span<const std::string> values) {
  std::string bytes;
  Put<uint32_t>(bytes, 8);
  Put<uint64_t>(bytes, values.size());
  for (const std::string& value : values) PutString(bytes, value);
  AddRaw(key, 9, bytes);
}

void GgufWriter::AddInt32Array(absl::string_view key, absl::Span<const int32_t> values) {
  std::string bytes;
  Put<uint32_t>(bytes, 5);
  Put<uint64_t>(bytes, values.size());
  for (const int32_t value : values) Put(bytes, value);
  AddRaw(key, 9, bytes);
}

void GgufWriter::AddTensor(absl::string_view name, WeightType type, std::vector<int64_t> dims,
                           absl::Span<const float> values) {
  AddRawTensor(name, FileType(type), std::move(dims), EncodeWeights(type, values));
}

void GgufWriter::AddRawTensor(absl::string_view name, uint32_t file_type, std::vector<int64_t> dims,
                              std::string bytes) {
  TensorEntry entry;
  PutString(entry.description, name);
  Put(entry.description, static_cast<uint32_t>(dims.size()));
  for (const int64_t dim : dims) Put(entry.description, dim);
  Put(entry.description, file_type);
  entry.bytes = std::move(bytes);
  tensors_.push_back(std::move(entry));
}

void GgufWriter::AddMisplacedTensor(absl::string_view name, uint32_t file_type,
                                    std::vector<int64_t> dims, std::string bytes, uint64_t offset) {
  AddRawTensor(name, file_type, std::move(dims), std::move(bytes));
  tensors_.back().misplaced = true;
  tensors_.back().offset = offset;
}

std::string GgufWriter::Serialize() const {
  std::string file = "GGUF";
  Put(file, version_);
  Put<uint64_t>(file, tensors_.size());
  Put(file, pairs_);
  file += metadata_;
  const auto padded = [&](uint64_t size) {
    return (size + alignment_ - 1) / alignment_ * alignment_;
  };
  uint64_t offset = 0;
  for (const TensorEntry& tensor : tensors_) {
    file += tensor.description;
    Put(file, tensor.misplaced ? tensor.offset : offset);
    offset += padded(tensor.bytes.size());
  }
  for (const TensorEntry& tensor : tensors_) {
    file.resize(padded(file.size()));
    file += tensor.bytes;
  }
  return file;
}

void GgufWriter::WriteFile(const std::string& path) const { WriteFileOrDie(path, Serialize()); }

void WriteFileOrDie(const std::string& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    std::fprintf(stderr, "cannot write %s\n", path.c_str());
    std::abort();
  }
}

}  // namespace weir
