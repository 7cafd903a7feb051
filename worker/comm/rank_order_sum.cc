#include "worker/comm/rank_order_sum.h"

#include <algorithm>
#include <array>

namespace weir {

void SumInRankOrder(absl::Span<const float* const> parts, int64_t count, float* out) {
  // A block that stays in the nearest cache and cannot overlap the parts, so that the inner loop
  // is vectorised and `out` may be a part.
  std::array<float, 512> sum;
  for (int64_t begin = 0; begin < count; begin += sum.size()) {
    const int64_t length = std::min<int64_t>(sum.size(), count - begin);
    std::copy_n(parts[0] + begin, length, sum.data());
    for (const float* part : parts.subspan(1)) {
      for (int64_t i = 0; i < length; ++i) sum[i] += part[begin + i];
    }
    std::copy_n(sum.data(), length, out + begin);
  }
}

}  // namespace weir
