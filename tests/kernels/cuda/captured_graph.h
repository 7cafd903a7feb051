#ifndef WEIR_TESTS_KERNELS_CUDA_CAPTURED_GRAPH_H_
#define WEIR_TESTS_KERNELS_CUDA_CAPTURED_GRAPH_H_

#include <cuda_runtime.h>

#include "tests/kernels/cuda/device_array.h"

namespace weir {

// What a function enqueues on a stream, as a graph.
class CapturedGraph {
 public:
  // `enqueue` is called here, and what it enqueues is captured instead of run.
  template <typename Enqueue>
  CapturedGraph(cudaStream_t stream, const Enqueue& enqueue) {
    CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    enqueue();
    cudaGraph_t graph;
    CheckCuda(cudaStreamEndCapture(stream, &graph));
    CheckCuda(cudaGraphInstantiate(&executable_, graph, 0));
    CheckCuda(cudaGraphDestroy(graph));
  }
  // What was launched has ended.
  ~CapturedGraph() { CheckCuda(cudaGraphExecDestroy(executable_)); }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  void Launch(cudaStream_t stream) const { CheckCuda(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_CAPTURED_GRAPH_H_
