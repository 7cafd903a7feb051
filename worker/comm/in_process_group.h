#ifndef WEIR_WORKER_COMM_IN_PROCESS_GROUP_H_
#define WEIR_WORKER_COMM_IN_PROCESS_GROUP_H_

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace weir {

// Communicators of `size` ranks that are threads of one process and share its (host) memory; by
// rank. Tensors that are summed are float32. Sums are taken in rank order (rank_order_sum.h), so
// they equal those of every other host communicator bit for bit.
//
// A rank that does not come to a call within `timeout`, or whose communicator is destroyed, is
// lost. Abort of one rank ends the whole group.
std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(
    int size, absl::Duration timeout = absl::Seconds(10));

}  // namespace weir

#endif  // WEIR_WORKER_COMM_IN_PROCESS_GROUP_H_
