#ifndef WEIR_KERNELS_LIKELIEST_H_
#define WEIR_KERNELS_LIKELIEST_H_

#include <cstdint>
#include <limits>

namespace weir {

// What a row of logits, or a rank's part of it, is reduced to on the device, so that a token can be
// chosen from its likeliest tokens, or by a draw from all of them, and a token's probability told,
// without the logits themselves. Plain data: it is gathered from ranks and copied to the host byte
// for byte.
//
// Logits that are not a number count as absent: such a token is never named.

// At most this many likeliest tokens are named.
inline constexpr int kMostLikeliest = 1024;

// What is asked of a row.
struct LikeliestRequest {
  // Of the draw (see gumbel.h).
  uint64_t seed = 0;
  uint64_t index = 0;
  // 1 / temperature, of the draw and of tempered_sum; finite and above 0.
  float inverse_temperature = 1;
  // Name this many likeliest tokens, 1 to kMostLikeliest; fewer where there are not as many.
  int32_t likeliest = 1;
  // Tell this token's logit; -1: of none.
  int32_t target = -1;
  // Whether to draw.
  bool draw = false;

  friend bool operator==(const LikeliestRequest&, const LikeliestRequest&) = default;
};

struct TokenLogit {
  float logit = 0;
  int32_t token = -1;  // in the whole vocabulary
};

// The summary of a row. What a part of a vocabulary without any logit yields is written here.
struct LikeliestSummary {
  float max = 0;            // the largest logit; -infinity
  float sum = 0;            // of exp(logit - max); 0
  float tempered_sum = 0;   // of exp((logit - max) * inverse_temperature); 0
  int32_t likeliest = 0;    // how many tokens are named; 0
  float drawn_value = 0;    // the draw's winner: its PerturbedLogit, by which parts are merged, ...
  float drawn_logit = 0;    // ... its logit ...
  int32_t drawn_token = 0;  // ... and the token; -1, and so where nothing was drawn
  // The logit of the request's target; -infinity if it is absent or in another part.
  float target_logit = -std::numeric_limits<float>::infinity();
};
static_assert(sizeof(TokenLogit) == 8 && sizeof(LikeliestSummary) == 32);

// Summaries of `rows` rows as a tensor float32 [SummaryLines(most), 2 * rows], with room for `most`
// likeliest tokens of each:
//
//   LikeliestSummary [rows]
//   TokenLogit       [most][rows]   best first, of equals the lowest token first; behind a row's
//                                   LikeliestSummary::likeliest they are undefined
//
// So of a tensor with room for many its first SummaryLines(n) lines are one with room for n: only
// what somebody asked for need be moved.
constexpr int64_t SummaryLines(int most) {
  return static_cast<int64_t>(sizeof(LikeliestSummary) / sizeof(TokenLogit)) + most;
}
inline LikeliestSummary* SummariesOf(float* tensor) {
  return reinterpret_cast<LikeliestSummary*>(tensor);
}
inline const LikeliestSummary* SummariesOf(const float* tensor) {
  return reinterpret_cast<const LikeliestSummary*>(tensor);
}
// The likeliest tokens: of row `row`, the one with `rank` likelier ones is at [rank * rows + row].
inline TokenLogit* LikeliestOf(float* tensor, int rows) {
  return reinterpret_cast<TokenLogit*>(SummariesOf(tensor) + rows);
}
inline const TokenLogit* LikeliestOf(const float* tensor, int rows) {
  return reinterpret_cast<const TokenLogit*>(SummariesOf(tensor) + rows);
}

}  // namespace weir

#endif  // WEIR_KERNELS_LIKELIEST_H_
