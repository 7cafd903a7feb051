#include "kernels/likeliest_merge.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace weir {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What a sum of exp((logit - part_max) * scale) is when it is counted from `max`. A part without
// weight adds nothing, whatever its maximum is.
double Rebased(double sum, float part_max, float max, double scale) {
  return sum > 0 ? sum * std::exp((double{part_max} - max) * scale) : 0.0;
}

// One part's likeliest tokens of a row, best first.
struct Cursor {
  const TokenLogit* next;
  int left;
  int stride;
};

}  // namespace

float LogitsSummary::LogProbability(float logit) const {
  return static_cast<float>(double{logit} - max - std::log(sum));
}

LogitsSummary MergeSummaries(absl::Span<const float> tensors, int parts, int rows, int most,
                             int row, const LikeliestRequest& request) {
  const int64_t part_size = SummaryLines(most) * 2 * rows;
  assert(static_cast<int64_t>(tensors.size()) == parts * part_size);
  assert(request.likeliest <= most);

  LogitsSummary whole;
  whole.max = -kInfinity;
  whole.target_logit = -kInfinity;
  std::vector<Cursor> cursors;
  for (int part = 0; part < parts; ++part) {
    const float* tensor = tensors.data() + part * part_size;
    const LikeliestSummary& summary = SummariesOf(tensor)[row];
    whole.max = std::max(whole.max, summary.max);
    whole.target_logit = std::max(whole.target_logit, summary.target_logit);
    cursors.push_back({LikeliestOf(tensor, rows) + row, summary.likeliest, rows});
    if (summary.drawn_token >= 0 &&
        (whole.drawn.token < 0 || summary.drawn_value > whole.drawn_value)) {
      whole.drawn_value = summary.drawn_value;
      whole.drawn = {summary.drawn_logit, summary.drawn_token};
    }
  }
  for (int part = 0; part < parts; ++part) {
    const LikeliestSummary& summary = SummariesOf(tensors.data() + part * part_size)[row];
    whole.sum += Rebased(summary.sum, summary.max, whole.max, 1);
    whole.tempered_sum +=
        Rebased(summary.tempered_sum, summary.max, whole.max, double{request.inverse_temperature});
  }

  // Of equals the first part's comes first: its tokens are lower.
  while (static_cast<int>(whole.likeliest.size()) < request.likeliest) {
    Cursor* best = nullptr;
    for (Cursor& cursor : cursors) {
      if (cursor.left > 0 && (best == nullptr || cursor.next->logit > best->next->logit)) {
        best = &cursor;
      }
    }
    if (best == nullptr) break;
    whole.likeliest.push_back(*best->next);
    best->next += best->stride;
    --best->left;
  }
  return whole;
}

}  // namespace weir
