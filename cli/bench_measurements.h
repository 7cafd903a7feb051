#ifndef WEIR_CLI_BENCH_MEASUREMENTS_H_
#define WEIR_CLI_BENCH_MEASUREMENTS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "cli/bench_host_time.h"
#include "kernels/cascade_config.h"
#include "worker/engine/engine.h"

namespace weir {

// What `weir bench` measures, each on sessions of its own, all of the same settings.

// What sessions are opened on. `engine` and its observer outlive the measurements.
struct BenchTarget {
  Engine* engine = nullptr;
  const BenchHostTime* host_time = nullptr;  // the engine's observer
  CascadeConfig cascade;
  int vocabulary = 0;
};

// One session reads from empty, then decodes at that depth.
struct DepthSpeed {
  int64_t tokens = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
};
absl::StatusOr<DepthSpeed> MeasureDepth(const BenchTarget& target, int64_t tokens);

// One session reads a prompt from empty and generates the first token.
struct PromptSpeed {
  int64_t tokens = 0;
  double first_token_s = 0;
  double prefill_tokens_per_s = 0;
};
absl::StatusOr<PromptSpeed> MeasurePrompt(const BenchTarget& target, int64_t tokens);

// Sessions that have read `depth` tokens each decode together, `steps` steps.
struct BatchSpeed {
  int sessions = 0;
  int64_t depth = 0;
  double step_ms = 0;  // mean
  double tokens_per_s = 0;
  double host_us_per_step = 0;  // mean of the leader's, besides the model
};
absl::StatusOr<BatchSpeed> MeasureBatch(const BenchTarget& target, int sessions, int64_t depth,
                                        int steps);

// One session reads `tokens` tokens, far beyond its cache, and decodes; beside it a young one that
// has read kYoungTokens past a full cache. What slows the machine down in the meantime slows both,
// since in the end they take turns. Times are medians between tokens.
inline constexpr int kYoungTokens = 1000;
inline constexpr int kLongSessionSessions = 2;
struct LongSessionSpeed {
  int64_t tokens = 0;
  double prefill_tokens_per_s = 0;
  double before_ms = 0;  // of the young session, before the old one read
  double young_ms = 0;   // of the young session, in turns with the old one
  double old_ms = 0;
  double ratio = 0;  // of the last two: old to young
};
absl::StatusOr<LongSessionSpeed> MeasureLongSession(const BenchTarget& target, int64_t tokens,
                                                    int steps);

}  // namespace weir

#endif  // WEIR_CLI_BENCH_MEASUREMENTS_H_
