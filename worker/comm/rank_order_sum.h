#ifndef WEIR_WORKER_COMM_RANK_ORDER_SUM_H_
#define WEIR_WORKER_COMM_RANK_ORDER_SUM_H_

#include <cstdint>

#include "absl/types/span.h"

namespace weir {

// out[i] = (parts[0][i] + parts[1][i]) + parts[2][i] + ..., i < count. Always in this order: every
// rank, every run and every way of cutting the tensor gives the same bits. `out` may be one of the
// parts.
void SumInRankOrder(absl::Span<const float* const> parts, int64_t count, float* out);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_RANK_ORDER_SUM_H_
