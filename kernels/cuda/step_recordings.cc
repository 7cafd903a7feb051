#include "kernels/cuda/step_recordings.h"

#include <cassert>

#include "kernels/cuda/device_memory.h"

namespace weir {

absl::Status StepRecordings::Record(int64_t key, absl::FunctionRef<absl::Status()> enqueue) {
  assert(!Has(key));
  cudaError_t error = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  if (error != cudaSuccess) return CudaStatus(error, "recording a step");
  recording_ = true;
  const absl::Status enqueued = enqueue();
  recording_ = false;
  cudaGraph_t graph = nullptr;
  error = cudaStreamEndCapture(stream_, &graph);
  cudaGraphExec_t executable = nullptr;
  if (enqueued.ok() && error == cudaSuccess) {
    error = cudaGraphInstantiate(&executable, graph, cudaGraphInstantiateFlagUseNodePriority);
  }
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  if (!enqueued.ok()) {
    (void)cudaGetLastError();  // of a recording that failed with what it was to record
    return enqueued;
  }
  if (error != cudaSuccess) return CudaStatus(error, "recording a step");
  // Takes the device memory that the graph needs now, and not while a step waits.
  error = cudaGraphUpload(executable, stream_);
  graphs_[key] = executable;
  return CudaStatus(error, "uploading a recorded step");
}

absl::Status StepRecordings::Replay(int64_t key) {
  return CudaStatus(cudaGraphLaunch(graphs_.at(key), stream_), "replaying a step");
}

void StepRecordings::Forget() {
  for (auto& [key, graph] : graphs_) (void)cudaGraphExecDestroy(graph);
  graphs_.clear();
}

}  // namespace weir
