#ifndef WEIR_WORKER_COMM_GLOO_COMMUNICATOR_H_
#define WEIR_WORKER_COMM_GLOO_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/gloo_mesh.h"
#include "worker/comm/rendezvous.h"

namespace weir {

// Joins ranks that are processes (or threads), on one host or several, over TCP. Tensors are in
// host memory; those that are summed are float32.
//
// Small tensors are summed in one exchange: every rank sends all it has to every other and sums in
// rank order. Larger ones in two: every rank sums one share, in rank order, and hands it round.
// Both give the bits of every other host communicator. Gloo's own all-reduce takes milliseconds
// where this takes tens of microseconds (docs/benchmarks.md).
//
// Blocks until all ranks are connected; errors as GlooMesh::Connect.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectGlooCommunicator(const GlooOptions& options,
                                                                      Rendezvous& rendezvous);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_GLOO_COMMUNICATOR_H_
