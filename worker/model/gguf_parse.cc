// Reading and verifying a GGUF file's header, metadata and tensor table. In the file's order:
//
//   u32 magic, u32 version, u64 tensors, u64 pairs
//
//   pair:     string key, u32 type, value
//   string:   u64 length, bytes
//   array:    u32 type, u64 count, values
//
//   tensor:   string name, u32 dimensions, u64 dimension[], u32 type, u64 offset
//
//   padding to the alignment; tensor data, from which offsets count

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/model/gguf.h"
#include "worker/model/gguf_types.h"
#include "worker/model/mapped_file.h"

namespace weir {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is read as it lies");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDimensions = 4;
constexpr int kMaxArrayDepth = 4;
// The shortest forms of what is counted in the header.
constexpr uint64_t kLeastPairBytes = 8 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;

// The shortest form of one array element of this type.
uint64_t LeastElementBytes(GgufValueType type) {
  if (type == GgufValueType::kString) return 8;
  if (type == GgufValueType::kArray) return 4 + 8;
  return *FixedGgufSize(type);
}

GgufValueType ReadValueType(ByteReader& reader, absl::string_view what) {
  const auto type = static_cast<GgufValueType>(reader.Read<uint32_t>(what));
  if (reader.ok() && !FixedGgufSize(type).has_value()) {
    reader.Fail(absl::InvalidArgumentError(absl::StrCat(
        reader.file_name(), " is corrupt: ", what, " has type number ", static_cast<uint32_t>(type),
        " at offset ", reader.offset() - 4, ", which does not exist")));
    return GgufValueType::kUint8;
  }
  return type;
}

uint64_t AlignUp(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  auto mapping = std::make_shared<const MappedFile>(*std::move(file));
  const absl::Span<const std::byte> bytes = mapping->bytes();
  std::unique_ptr<GgufFile> gguf(new GgufFile(path, std::move(mapping), bytes));
  const absl::StatusOr<std::vector<uint64_t>> offsets = gguf->ParseHeader(bytes.size());
  if (!offsets.ok()) return offsets.status();
  const uint64_t data_start = std::min<uint64_t>(gguf->data_start_, bytes.size());
  absl::Status status = gguf->PlaceTensors(*offsets, bytes.subspan(data_start));
  if (status.ok()) status = gguf->CheckNoOverlap();
  if (!status.ok()) return status;
  return gguf;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::FromMemory(std::string name,
                                                               GgufMemory memory) {
  auto storage = std::make_shared<const GgufMemory>(std::move(memory));
  const absl::Span<const std::byte> header(
      reinterpret_cast<const std::byte*>(storage->header.data()), storage->header.size());
  const absl::Span<const std::byte> data(storage->data.get(), storage->data_size);
  std::unique_ptr<GgufFile> gguf(new GgufFile(std::move(name), std::move(storage), header));
  gguf->size_ += data.size();
  const absl::StatusOr<std::vector<uint64_t>> offsets = gguf->ParseHeader(data.size());
  if (!offsets.ok()) return offsets.status();
  if (absl::Status status = gguf->PlaceTensors(*offsets, data); !status.ok()) return status;
  return gguf;
}

absl::StatusOr<std::vector<uint64_t>> GgufFile::ParseHeader(uint64_t room) {
  ByteReader reader(path_, bytes_);
  const uint32_t magic = reader.Read<uint32_t>("the magic number");
  if (reader.ok() && magic != kMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " is not a GGUF file: it does not begin with \"GGUF\""));
  }
  version_ = reader.Read<uint32_t>("the format version");
  if (reader.ok() && version_ != 2 && version_ != 3) {
    const bool big_endian = version_ == 0x02000000 || version_ == 0x03000000;
    return absl::UnimplementedError(
        big_endian
            ? absl::StrCat(path_, " is a big-endian GGUF file; Weir reads little-endian ones")
            : absl::StrCat(path_, " has GGUF version ", version_, "; Weir reads versions 2 and 3"));
  }
  const uint64_t tensors = reader.ReadCount(kLeastTensorBytes, "the tensor count");
  const uint64_t pairs = reader.ReadCount(kLeastPairBytes, "the metadata count");
  if (!reader.ok()) return reader.status();

  values_.reserve(pairs);
  for (uint64_t i = 0; i < pairs && reader.ok(); ++i) {
    const absl::string_view key = reader.ReadString("a metadata key");
    ParseValue(reader, key);
  }
  std::vector<uint64_t> offsets;
  offsets.reserve(tensors);
  tensors_.reserve(tensors);
  tensor_index_.reserve(tensors);
  for (uint64_t i = 0; i < tensors && reader.ok(); ++i) ParseTensorInfo(reader, room, offsets);
  if (!reader.ok()) return reader.status();

  absl::StatusOr<uint64_t> alignment = GetUintOr("general.alignment", kDefaultAlignment);
  if (!alignment.ok()) return alignment.status();
  if (*alignment < 8 || *alignment > std::numeric_limits<uint32_t>::max() ||
      !std::has_single_bit(*alignment)) {
    return absl::InvalidArgumentError(absl::StrCat(path_, " is corrupt: general.alignment is ",
                                                   *alignment,
                                                   ", not a power of two from 8 to 2^31"));
  }
  alignment_ = *alignment;
  data_start_ = AlignUp(reader.offset(), alignment_);
  return offsets;
}

void GgufFile::ParseValue(ByteReader& reader, absl::string_view key) {
  if (!reader.ok()) return;
  const std::string what = absl::StrCat("metadata value ", QuoteName(key));
  Value value;
  value.type = ReadValueType(reader, what);
  if (value.type == GgufValueType::kArray) {
    value.element_type = ReadValueType(reader, what);
    value.count = reader.ReadCount(LeastElementBytes(value.element_type), what);
    const uint64_t begin = reader.offset();
    SkipElements(reader, value.element_type, value.count, 1, key);
    value.bytes = bytes_.subspan(begin, reader.offset() - begin);
  } else if (value.type == GgufValueType::kString) {
    const absl::string_view text = reader.ReadString(what);
    value.bytes = {reinterpret_cast<const std::byte*>(text.data()), text.size()};
  } else {
    value.bytes = reader.ReadBytes(*FixedGgufSize(value.type), what);
  }
  if (!reader.ok()) return;
  if (!values_.emplace(key, value).second) {
    reader.Fail(absl::InvalidArgumentError(
        absl::StrCat(path_, " is corrupt: it has two metadata values named ", QuoteName(key))));
  }
}

void GgufFile::SkipElements(ByteReader& reader, GgufValueType type, uint64_t count, int depth,
                            absl::string_view key) {
  const std::string what = absl::StrCat("metadata array ", QuoteName(key));
  if (type == GgufValueType::kString) {
    for (uint64_t i = 0; i < count && reader.ok(); ++i) reader.ReadString(what);
  } else if (type == GgufValueType::kArray) {
    if (depth == kMaxArrayDepth) {
      reader.Fail(absl::InvalidArgumentError(absl::StrCat(
          path_, " is not acceptable: ", what, " nests deeper than ", kMaxArrayDepth, " levels")));
    }
    for (uint64_t i = 0; i < count && reader.ok(); ++i) {
      const GgufValueType inner = ReadValueType(reader, what);
      const uint64_t inner_count = reader.ReadCount(LeastElementBytes(inner), what);
      SkipElements(reader, inner, inner_count, depth + 1, key);
    }
  } else {
    // ReadCount made sure that this product is at most the file's size.
    reader.ReadBytes(count * *FixedGgufSize(type), what);
  }
}

void GgufFile::ParseTensorInfo(ByteReader& reader, uint64_t room, std::vector<uint64_t>& offsets) {
  GgufTensor tensor;
  tensor.name = reader.ReadString("a tensor name");
  const std::string what = absl::StrCat("the description of tensor ", QuoteName(tensor.name));
  const auto fail = [&](absl::Status status) { reader.Fail(std::move(status)); };

  const uint32_t dimensions = reader.Read<uint32_t>(what);
  if (reader.ok() && (dimensions < 1 || dimensions > kMaxDimensions)) {
    return fail(absl::InvalidArgumentError(
        absl::StrCat(path_, " is corrupt: tensor ", QuoteName(tensor.name), " has ", dimensions,
                     " dimensions; 1 to ", kMaxDimensions, " are possible")));
  }
  // No weight takes less than half a byte, so no sound tensor has more weights than this.
  const uint64_t max_weights = 2 * room;
  uint64_t weights = 1;
  for (uint32_t i = 0; i < dimensions && reader.ok(); ++i) {
    const uint64_t dim = reader.Read<uint64_t>(what);
    if (reader.ok() && (dim == 0 || dim > max_weights / weights)) {
      return fail(absl::InvalidArgumentError(absl::StrCat(
          path_, " is truncated or corrupt: tensor ", QuoteName(tensor.name),
          " has a dimension of ", dim, ", which the file's ", room, " bytes cannot hold")));
    }
    weights *= dim;
    tensor.dims.push_back(static_cast<int64_t>(dim));
  }
  const uint32_t file_type = reader.Read<uint32_t>(what);
  const uint64_t offset = reader.Read<uint64_t>(what);
  if (!reader.ok()) return;

  const std::optional<WeightType> type = WeightTypeOfGguf(file_type);
  if (!type.has_value()) {
    return fail(absl::UnimplementedError(absl::StrCat(
        path_, ": tensor ", QuoteName(tensor.name), " has type ", GgufTensorTypeName(file_type),
        ", which Weir does not read; it reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1")));
  }
  tensor.type = *type;
  if (tensor.dims[0] % BlockWeights(tensor.type) != 0) {
    return fail(absl::InvalidArgumentError(
        absl::StrCat(path_, " is corrupt: rows of tensor ", QuoteName(tensor.name), " have ",
                     tensor.dims[0], " weights, not a multiple of the ", BlockWeights(tensor.type),
                     " in a block of type ", WeightTypeName(tensor.type))));
  }
  // At most 4 bytes a weight and 2 weights a byte of the file: no overflow.
  tensor.size = RowBytes(tensor.type, static_cast<int64_t>(weights));
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
    return fail(absl::InvalidArgumentError(
        absl::StrCat(path_, " is corrupt: it has two tensors named ", QuoteName(tensor.name))));
  }
  tensors_.push_back(std::move(tensor));
  offsets.push_back(offset);
}

absl::Status GgufFile::PlaceTensors(const std::vector<uint64_t>& offsets,
                                    absl::Span<const std::byte> data) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const uint64_t size = static_cast<uint64_t>(tensor.size);
    if (offsets[i] % alignment_ != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, " is corrupt: the data of tensor ", QuoteName(tensor.name), " begins at ",
          offsets[i], ", not a multiple of the alignment ", alignment_));
    }
    if (offsets[i] > data.size() || size > data.size() - offsets[i]) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, " is truncated or corrupt: the data of tensor ", QuoteName(tensor.name), " needs ",
          size, " bytes at offset ", offsets[i], " of the tensor data, which begins at ",
          data_start_, ", but the file ends at ", size_));
    }
    tensor.data = data.data() + offsets[i];
  }
  return absl::OkStatus();
}

absl::Status GgufFile::CheckNoOverlap() const {
  std::vector<const GgufTensor*> by_place;
  by_place.reserve(tensors_.size());
  for (const GgufTensor& tensor : tensors_) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->data < b->data; });
  for (size_t i = 1; i < by_place.size(); ++i) {
    if (by_place[i - 1]->data + by_place[i - 1]->size > by_place[i]->data) {
      return absl::InvalidArgumentError(absl::StrCat(path_, " is corrupt: the data of tensors ",
                                                     QuoteName(by_place[i - 1]->name), " and ",
                                                     QuoteName(by_place[i]->name), " overlap"));
    }
  }
  return absl::OkStatus();
}

}  // namespace weir
