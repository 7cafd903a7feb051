#ifndef WEIR_WORKER_COMM_SINGLE_COMMUNICATOR_H_
#define WEIR_WORKER_COMM_SINGLE_COMMUNICATOR_H_

#include <memory>

#include "worker/comm/communicator.h"

namespace weir {

// A group of one rank in host memory: sums and broadcasts change nothing, gathers copy.
std::unique_ptr<Communicator> MakeSingleCommunicator();

}  // namespace weir

#endif  // WEIR_WORKER_COMM_SINGLE_COMMUNICATOR_H_
