#ifndef WEIR_WORKER_MODEL_WEIGHT_ROWS_H_
#define WEIR_WORKER_MODEL_WEIGHT_ROWS_H_

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "worker/model/gguf.h"

namespace weir {

// The rows of weight matrices that one tensor-parallel rank loads, named in a file's mapping. All
// take a tensor of two dimensions {inputs, outputs} that GgufFile::Open returned; ranges are the
// caller's promise.

// Rows [first, first + count) appended to `rows`.
void AppendRows(const GgufTensor& tensor, int64_t first, int64_t count,
                std::vector<WeightRow>& rows);

// The rows of `count` heads from head `first`, appended in rotate-half order. GGUF stores the rows
// of Llama's query and key heads with the two halves of each rotated pair side by side, as row 2 i
// + h; Weir rotates pairs (i, i + head_dim / 2), row i + h * head_dim / 2.
void AppendRotatedHeads(const GgufTensor& tensor, int head_dim, int first, int count,
                        std::vector<WeightRow>& rows);

// Columns [first, first + count) of every row. Where that cuts through the blocks of a quantised
// type, the values are dequantised into this object, which then has to outlive the rows.
class ColumnSlice {
 public:
  ColumnSlice(const GgufTensor& tensor, int64_t first, int64_t count);

  const std::vector<WeightRow>& rows() const { return rows_; }

 private:
  std::vector<WeightRow> rows_;
  std::vector<float> values_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_WEIGHT_ROWS_H_
