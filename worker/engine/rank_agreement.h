#ifndef WEIR_WORKER_ENGINE_RANK_AGREEMENT_H_
#define WEIR_WORKER_ENGINE_RANK_AGREEMENT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"

namespace weir {

// Compares what all ranks give as the digest of step `step`; all call it at once. When they are not
// all the same every rank gets the same INTERNAL, which names the step and the ranks that differ
// from rank 0. Errors of `communicator`.
absl::Status CheckRanksAgree(Communicator& communicator, int64_t step, uint64_t digest);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_RANK_AGREEMENT_H_
