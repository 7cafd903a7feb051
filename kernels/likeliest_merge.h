#ifndef WEIR_KERNELS_LIKELIEST_MERGE_H_
#define WEIR_KERNELS_LIKELIEST_MERGE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/likeliest.h"

namespace weir {

// The summary of a whole row on the host. See LikeliestSummary.
struct LogitsSummary {
  float max = 0;
  double sum = 0;
  double tempered_sum = 0;
  std::vector<TokenLogit> likeliest;
  float drawn_value = 0;
  TokenLogit drawn;  // token -1: nothing was drawn
  float target_logit = 0;

  // The natural log-probability, whatever the temperature, of a token with this logit.
  float LogProbability(float logit) const;
};

// Puts row `row` together from its parts, in the order of the vocabulary: `tensors` holds `parts`
// summary tensors one after another, each of `rows` rows with room for `most` likeliest tokens.
// `request` is what was asked of the row.
LogitsSummary MergeSummaries(absl::Span<const float> tensors, int parts, int rows, int most,
                             int row, const LikeliestRequest& request);

}  // namespace weir

#endif  // WEIR_KERNELS_LIKELIEST_MERGE_H_
