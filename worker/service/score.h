#ifndef WEIR_WORKER_SERVICE_SCORE_H_
#define WEIR_WORKER_SERVICE_SCORE_H_

#include <functional>

#include "absl/status/status.h"
#include "weir/v1/generation.pb.h"
#include "worker/service/leader_state.h"

namespace weir {

// Reads the request's text and hands `write` the log-probability of each of its tokens, as
// generation.proto tells it. `write` and `cancelled` as in generate.h.
absl::Status Score(LeaderState& leader, const v1::ScoreRequest& request,
                   const std::function<bool()>& cancelled,
                   const std::function<bool(const v1::ScoreResponse&)>& write);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_SCORE_H_
