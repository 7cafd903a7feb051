#ifndef WEIR_CLI_BENCH_FIT_H_
#define WEIR_CLI_BENCH_FIT_H_

#include "absl/status/statusor.h"
#include "cli/bench_report.h"
#include "worker/engine/rank.h"

namespace weir {

// How many sessions of these settings there is memory for, at most 65,536. On the CPU, where memory
// is given before it is there: what is free once the model is loaded, shared out. Elsewhere tried,
// by loading the model again and again. `options.engine.max_sessions` does not matter. Errors as
// Rank::Load when not even one fits.
absl::StatusOr<BenchFit> MeasureFit(RankOptions options);

}  // namespace weir

#endif  // WEIR_CLI_BENCH_FIT_H_
