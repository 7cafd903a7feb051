#ifndef WEIR_WORKER_COMM_NCCL_COMMUNICATOR_H_
#define WEIR_WORKER_COMM_NCCL_COMMUNICATOR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/gloo_mesh.h"
#include "worker/comm/rendezvous.h"

namespace weir {

struct NcclOptions {
  // The group, and what Broadcast and Gather go through. `timeout` is also how long the stream may
  // take after the last call: when it has not come to its end by then, some rank is silent.
  GlooOptions group;
  // CUDA's number of this rank's GPU. No two ranks share one.
  int gpu = 0;
  // The backend's stream, a cudaStream_t of that GPU; outlives the communicator.
  void* stream = nullptr;
  // Whether small tensors go through Weir's own kernel where they can; the same on all ranks.
  bool one_shot = true;
  // Told, in a sentence, why sums are slower than they could be; may be empty.
  std::function<void(const std::string& sentence)> log;
};

// Joins ranks with a GPU each. Tensors are bfloat16 or float32 in device memory; their collectives
// are enqueued, may be captured in a CUDA graph, and overwrite nothing but their output. Bytes of
// Broadcast and Gather stay in host memory and go over TCP, as those of ConnectGlooCommunicator.
//
// Small tensors go through one kernel of Weir's own where the GPUs reach each other's memory
// (kernels/cuda/peers/one_shot_all_reduce.h), all others through NCCL. Sums are taken in rank
// order, in float32 and rounded once, so that an element's sum depends neither on which way it went
// nor on what else is in the tensor; those of float32 equal a host communicator's bit for bit.
//
// A lost rank is found out by Poll, Broadcast or Gather. Whatever ends the group ends what waits in
// the stream, so the stream, the GPU and this process can be used on, also for the next group.
// NCCL's own memory is freed when no CUDA graph that has captured its collectives exists any more.
//
// Blocks until all ranks are connected and have summed something. UNAVAILABLE, naming the rank,
// when one does not come or is lost; INVALID_ARGUMENT for wrong options, such as two ranks on one
// GPU; NOT_FOUND when this machine has no NCCL or one that is too old (nccl_library.h);
// RESOURCE_EXHAUSTED; UNIMPLEMENTED in a build without CUDA. Makes `gpu` the calling thread's
// current device, as every call does that enqueues or waits.
absl::StatusOr<std::unique_ptr<Communicator>> ConnectNcclCommunicator(const NcclOptions& options,
                                                                      Rendezvous& rendezvous);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_COMMUNICATOR_H_
