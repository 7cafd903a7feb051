#ifndef WEIR_WORKER_ENGINE_RANK_H_
#define WEIR_WORKER_ENGINE_RANK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/engine/engine.h"
#include "worker/engine/session_capacity.h"
#include "worker/engine/step_executor.h"
#include "worker/model/gguf.h"
#include "worker/model/llama.h"
#include "worker/model/tokenizer.h"

namespace weir {

struct RankOptions {
  std::string model_path;            // a GGUF file; for a dummy, a config.json
  std::string load_format = "gguf";  // or "dummy", random weights: see OpenModel
  int dummy_layers = 0;              // of a dummy, only the first so many; 0: all
  std::string device = "cpu";        // or "cuda"
  int threads = 1;                   // that compute, on the CPU
  int gpu = 0;                       // which of the visible ones, on a GPU
  bool exact_scores = false;         // on a GPU: see CudaOptions
  int rank = 0;
  int tensor_parallel = 1;  // ranks
  // `max_sessions` and `cascade` size the memory that Load allocates.
  EngineOptions engine;
};

// Everything one rank of a group computes with: the model's part, the tokenizer, the memory of all
// sessions. Loaded once; engines come and go with the groups that the rank is a member of.
class Rank {
 public:
  // INVALID_ARGUMENT (settings, sizes that do not divide the model, a broken file), NOT_FOUND (the
  // file), UNIMPLEMENTED (a kind of model or device), RESOURCE_EXHAUSTED (memory).
  static absl::StatusOr<std::unique_ptr<Rank>> Load(const RankOptions& options);

  // Whether there is the device that a rank computes on, as far as can be told without touching it.
  // Errors as of Load.
  static absl::Status CheckDevice(const std::string& device, int gpu);

  // Starts the engine of a group that has just been formed, without sessions. `communicator` is of
  // this rank and size; it and this object outlive the engine. One engine at a time.
  absl::StatusOr<std::unique_ptr<Engine>> StartEngine(Communicator* communicator);

  const RankOptions& options() const { return options_; }
  const GgufFile& file() const { return *file_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const LlamaConfig& model_config() const { return model_->config(); }
  Backend& backend() { return *backend_; }
  // Such as "cpu (avx512, 2 threads)".
  std::string device_description() const { return backend_->description(); }
  // What a session may ask for.
  const CascadeLimits& cascade_limits() const { return executor_->limits(); }
  // Bytes that one session's cache takes on this rank, a constant.
  int64_t session_bytes() const { return executor_->session_bytes(); }
  // What there is now for sessions besides those that it was loaded for.
  absl::StatusOr<RankMemory> MemoryForSessions() const;

 private:
  explicit Rank(const RankOptions& options) : options_(options) {}

  RankOptions options_;
  std::unique_ptr<GgufFile> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<LlamaModel> model_;
  std::unique_ptr<StepExecutor> executor_;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_RANK_H_
