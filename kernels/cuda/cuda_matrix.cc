#include "kernels/cuda/cuda_matrix.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/dequantize.h"

namespace weir {
namespace {

constexpr int64_t kStagingBytes = 32 << 20;

// To the nearest bfloat16, ties to even; weights are finite.
uint16_t RoundToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

absl::StatusOr<WeightUploader> WeightUploader::Create() {
  absl::StatusOr<PinnedMemory> staging = AllocatePinned(kStagingBytes, "memory to load weights");
  if (!staging.ok()) return staging.status();
  return WeightUploader(*std::move(staging));
}

absl::StatusOr<std::unique_ptr<Matrix>> WeightUploader::Upload(absl::Span<const WeightRow> rows,
                                                               int64_t cols) {
  if (cols % 8 != 0) {
    return absl::UnimplementedError(
        absl::StrCat("rows of ", cols, " weights; the CUDA backend takes multiples of 8"));
  }
  const int64_t row_bytes = cols * static_cast<int64_t>(sizeof(uint16_t));
  const int64_t count = static_cast<int64_t>(rows.size());
  absl::StatusOr<DeviceMemory> memory =
      AllocateDevice(count * row_bytes,
                     absl::StrCat("a matrix of ", count, " x ", cols, " weights"), kLessForWeights);
  if (!memory.ok()) return memory.status();
  const int64_t batch = std::max<int64_t>(1, kStagingBytes / row_bytes);
  if (row_bytes > kStagingBytes) {
    return absl::UnimplementedError(absl::StrCat("rows of ", cols, " weights are too long"));
  }
  values_.resize(cols);
  for (int64_t first = 0; first < count; first += batch) {
    const int64_t end = std::min(count, first + batch);
    uint16_t* to = staging_.as<uint16_t>();
    for (int64_t row = first; row < end; ++row, to += cols) {
      if (rows[row].type == WeightType::kBF16) {
        std::memcpy(to, rows[row].data, row_bytes);
        continue;
      }
      DequantizeRow(rows[row].type, rows[row].data, absl::MakeSpan(values_));
      std::transform(values_.begin(), values_.end(), to, RoundToBFloat16);
    }
    const cudaError_t error = CopyToDevice(memory->as<std::byte>() + first * row_bytes,
                                           staging_.as<void>(), (end - first) * row_bytes);
    if (error != cudaSuccess) return CudaStatus(error, "loading weights");
  }
  return std::make_unique<CudaMatrix>(*std::move(memory), count, cols);
}

}  // namespace weir
