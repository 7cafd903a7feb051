#ifndef WEIR_WORKER_MODEL_LLAMA_H_
#define WEIR_WORKER_MODEL_LLAMA_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/kv_storage.h"
#include "kernels/sequence_step.h"
#include "worker/comm/communicator.h"
#include "worker/model/gguf.h"
#include "worker/model/llama_config.h"
#include "worker/model/llama_weights.h"

namespace weir {

// One rank's part of a Llama-family model: sizes and weights, in the backend's memory. Immutable.
class LlamaModel {
 public:
  // Loads the part of `communicator`'s rank. Errors: see LoadLlamaWeights. `backend` and
  // `communicator` outlive the model; the file may be closed afterwards.
  static absl::StatusOr<std::unique_ptr<LlamaModel>> Load(const GgufFile& file, Backend* backend,
                                                          Communicator* communicator);

  const LlamaConfig& config() const { return config_; }
  const LlamaWeights& weights() const { return weights_; }
  Backend& backend() const { return *backend_; }
  Communicator& communicator() const { return *communicator_; }

  // Heads of this rank; its first KV head is rank * kv_heads().
  int query_heads() const { return config_.query_heads / communicator_->size(); }
  int kv_heads() const { return config_.kv_heads / communicator_->size(); }
  int feed_forward() const { return config_.feed_forward / communicator_->size(); }

 private:
  LlamaModel(LlamaConfig config, LlamaWeights weights, Backend* backend, Communicator* communicator)
      : config_(std::move(config)),
        weights_(std::move(weights)),
        backend_(backend),
        communicator_(communicator) {}

  LlamaConfig config_;
  LlamaWeights weights_;
  Backend* backend_;
  Communicator* communicator_;
};

// A pass of token rows through a model's layers, in activations allocated once:
//
//   forward.Begin(tokens, steps);
//   forward.RunLayers(kv, 0, 12);            // other passes may run between two calls,
//   forward.RunLayers(kv, 12, layers);       // on other LlamaForward objects
//   ... forward.output() ...
//
// Every rank of the communicator makes the same calls. Driven by the engine's thread.
class LlamaForward {
 public:
  // `max_rows` of one pass, all sequences together. `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<LlamaForward>> Create(const LlamaModel* model,
                                                              int max_rows);

  // Embeds the rows of a new pass. steps[i] says what rows [first_row, first_row + rows) are; they
  // cover `tokens` in order, at least one. `steps` stays unchanged until the last layer has run.
  void Begin(absl::Span<const int32_t> tokens, absl::Span<const SequenceStep> steps);

  // Runs layers [begin, end), where the last call ended, and admits the rows to `kv`.
  absl::Status RunLayers(KvStorage& kv, int begin, int end);

  // After the last layer: the normalised rows [rows, hidden], of which LlamaHead makes logits.
  // Valid until Begin.
  Tensor output() const { return normed_.Rows(0, rows_); }

  // Time that this object spent in all-reduces, host clock.
  absl::Duration all_reduce_time() const { return all_reduce_time_; }

 private:
  explicit LlamaForward(const LlamaModel* model) : model_(model) {}

  absl::Status AllReduce(Tensor x);

  const LlamaModel* model_;
  // Activations for max_rows each.
  Tensor residual_;    // [hidden]
  Tensor normed_;      // [hidden]
  Tensor delta_;       // [hidden] what a part of a layer adds to the residual
  Tensor qkv_;         // [(query_heads + 2 kv_heads) * head_dim]
  Tensor attention_;   // [query_heads * head_dim]
  Tensor row_scores_;  // float32 [kv_heads, max_rows]
  Tensor gate_up_;     // [2 * feed_forward]
  Tensor activated_;   // [feed_forward]

  int64_t rows_ = 0;
  absl::Span<const SequenceStep> steps_;
  std::vector<RowGroup> groups_;
  absl::Duration all_reduce_time_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_H_
