#ifndef WEIR_KERNELS_CUDA_STEP_RECORDINGS_H_
#define WEIR_KERNELS_CUDA_STEP_RECORDINGS_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace weir {

// What was enqueued on a stream under a key, as CUDA graphs. Not thread-safe.
class StepRecordings {
 public:
  explicit StepRecordings(cudaStream_t stream) : stream_(stream) {}
  ~StepRecordings() { Forget(); }
  StepRecordings(const StepRecordings&) = delete;
  StepRecordings& operator=(const StepRecordings&) = delete;

  bool Has(int64_t key) const { return graphs_.contains(key); }
  // Whether what is enqueued now is recorded.
  bool recording() const { return recording_; }
  // Calls `enqueue`, which enqueues on the stream, and records instead of running. Its error, or
  // what CUDA says.
  absl::Status Record(int64_t key, absl::FunctionRef<absl::Status()> enqueue);
  // Enqueues what was recorded under `key`.
  absl::Status Replay(int64_t key);
  void Forget();

 private:
  cudaStream_t stream_;
  bool recording_ = false;
  absl::flat_hash_map<int64_t, cudaGraphExec_t> graphs_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_STEP_RECORDINGS_H_
