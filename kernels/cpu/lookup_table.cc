#include "kernels/cpu/lookup_table.h"

#include <cassert>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kernels/dequantize.h"

namespace weir {

absl::StatusOr<std::unique_ptr<LookupTable>> LookupTable::Copy(absl::Span<const WeightRow> rows,
                                                               int64_t cols) {
  int64_t bytes = 0;
  for (const WeightRow& row : rows) bytes += RowBytes(row.type, cols);
  absl::StatusOr<AlignedMemory> memory = AlignedMemory::Allocate(
      bytes, absl::StrCat("a look-up table [", rows.size(), ", ", cols, "]"));
  if (!memory.ok()) return memory.status();

  std::unique_ptr<LookupTable> table(new LookupTable(cols));
  table->memory_ = std::move(*memory);
  table->rows_.reserve(rows.size());
  std::byte* to = table->memory_.data();
  for (const WeightRow& row : rows) {
    const int64_t row_bytes = RowBytes(row.type, cols);
    std::memcpy(to, row.data, row_bytes);
    table->rows_.push_back({to, row.type});
    to += row_bytes;
  }
  return table;
}

void LookupTable::Read(ThreadPool& pool, absl::Span<const int32_t> indices, Tensor out) const {
  assert(out.cols == cols_ && out.rows >= static_cast<int64_t>(indices.size()));
  const int64_t count = static_cast<int64_t>(indices.size());
  pool.ForRanges(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      assert(indices[i] >= 0 && indices[i] < rows());
      const WeightRow& row = rows_[indices[i]];
      DequantizeRow(row.type, row.data, absl::MakeSpan(out.f32() + i * cols_, cols_));
    }
  });
}

}  // namespace weir
