#include "worker/model/weight_rows.h"

#include <cstring>

#include "absl/types/span.h"
#include "kernels/dequantize.h"

namespace weir {
namespace {

WeightRow Row(const GgufTensor& tensor, int64_t row) {
  return {tensor.data + row * RowBytes(tensor.type, tensor.dims[0]), tensor.type};
}

}  // namespace

void AppendRows(const GgufTensor& tensor, int64_t first, int64_t count,
                std::vector<WeightRow>& rows) {
  for (int64_t row = first; row < first + count; ++row) rows.push_back(Row(tensor, row));
}

void AppendRotatedHeads(const GgufTensor& tensor, int head_dim, int first, int count,
                        std::vector<WeightRow>& rows) {
  for (int head = first; head < first + count; ++head) {
    for (int half = 0; half < 2; ++half) {
      for (int pair = 0; pair < head_dim / 2; ++pair) {
        rows.push_back(Row(tensor, int64_t{head} * head_dim + 2 * pair + half));
      }
    }
  }
}

ColumnSlice::ColumnSlice(const GgufTensor& tensor, int64_t first, int64_t count) {
  const int64_t cols = tensor.dims[0];
  const int64_t row_count = tensor.dims[1];
  const int64_t block = BlockWeights(tensor.type);
  rows_.reserve(row_count);
  if (first % block == 0 && count % block == 0) {
    for (int64_t row = 0; row < row_count; ++row) {
      rows_.push_back({Row(tensor, row).data + RowBytes(tensor.type, first), tensor.type});
    }
    return;
  }
  values_.resize(row_count * count);
  std::vector<float> whole(cols);
  for (int64_t row = 0; row < row_count; ++row) {
    DequantizeRow(tensor.type, Row(tensor, row).data, absl::MakeSpan(whole));
    float* slice = values_.data() + row * count;
    std::memcpy(slice, whole.data() + first, count * sizeof(float));
    rows_.push_back({reinterpret_cast<const std::byte*>(slice), WeightType::kF32});
  }
}

}  // namespace weir
