#ifndef WEIR_KERNELS_ROW_SHARE_H_
#define WEIR_KERNELS_ROW_SHARE_H_

#include <cstdint>

#include "kernels/host_device.h"

namespace weir {

// Rows [begin, end).
struct RowShare {
  int64_t begin;
  int64_t end;

  WEIR_HOST_DEVICE constexpr int64_t rows() const { return end - begin; }
};

// Which of `rows` rows are rank `rank`'s, where `ranks` ranks share them out. Shares follow one
// another by rank and cover all rows; with fewer rows than ranks some are empty.
WEIR_HOST_DEVICE constexpr RowShare ShareOfRows(int64_t rows, int rank, int ranks) {
  return {rows * rank / ranks, rows * (rank + 1) / ranks};
}

// The most rows that a share of up to `rows` rows has.
WEIR_HOST_DEVICE constexpr int64_t MostRowsOfShare(int64_t rows, int ranks) {
  return (rows + ranks - 1) / ranks;
}

}  // namespace weir

#endif  // WEIR_KERNELS_ROW_SHARE_H_
