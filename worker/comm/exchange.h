#ifndef WEIR_WORKER_COMM_EXCHANGE_H_
#define WEIR_WORKER_COMM_EXCHANGE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace weir {

// Every rank's `bytes`, by rank, on every rank. For a few bytes, where time does not matter. All
// are of one length: INTERNAL if not. Errors of `communicator`.
absl::StatusOr<std::vector<std::string>> Exchange(Communicator& communicator,
                                                  const std::string& bytes);

// The first rank that says no, the same on every rank; -1 when all say yes.
absl::StatusOr<int> FirstToRefuse(Communicator& communicator, bool yes);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_EXCHANGE_H_
