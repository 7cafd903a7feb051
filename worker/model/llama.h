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
#include "worker/comm/communicator.h"
#include "worker/model/gguf.h"
#include "worker/model/llama_config.h"
#include "worker/model/llama_weights.h"

namespace weir {

// One rank's part of a Llama-family model: sizes and weights, in the backend's memory. Immutable.
class LlamaModel {
 public:
  // Loads the part of rank `rank` of `ranks`. Errors: see LoadLlamaWeights. `backend` outlives the
  // model; the file may be closed afterwards.
  static absl::StatusOr<std::unique_ptr<LlamaModel>> Load(const GgufFile& file, int rank, int ranks,
                                                          Backend* backend);

  const LlamaConfig& config() const { return config_; }
  const LlamaWeights& weights() const { return weights_; }
  Backend& backend() const { return *backend_; }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  // Heads of this rank; its first KV head is rank * kv_heads().
  int query_heads() const { return config_.query_heads / ranks_; }
  int kv_heads() const { return config_.kv_heads / ranks_; }
  int feed_forward() const { return config_.feed_forward / ranks_; }

 private:
  LlamaModel(LlamaConfig config, LlamaWeights weights, int rank, int ranks, Backend* backend)
      : config_(std::move(config)),
        weights_(std::move(weights)),
        rank_(rank),
        ranks_(ranks),
        backend_(backend) {}

  LlamaConfig config_;
  LlamaWeights weights_;
  int rank_;
  int ranks_;
  Backend* backend_;
};

// A pass of token rows through a model's layers, in activations allocated once:
//
//   backend.LoadStep(tokens, sequences, step);
//   forward.Begin(step, groups);
//   forward.RunLayers(communicator, kv, 0, 12);       // other passes may run between two calls,
//   forward.RunLayers(communicator, kv, 12, layers);  // on other LlamaForward objects
//   ... forward.output() ...
//
// Every rank makes the same calls. Driven by the engine's thread.
class LlamaForward {
 public:
  // `max_rows` of one pass, all sequences together. `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<LlamaForward>> Create(const LlamaModel* model,
                                                              int max_rows);

  // Bytes of the backend's memory that a row of max_rows takes.
  int64_t bytes_per_row() const;

  // Joins other ranks, for passes of many rows: shares memory with them where that makes sums over
  // ranks faster. Before the first pass with `communicator`, which outlives the passes.
  absl::Status ShareRows(Communicator& communicator);
  // Goes back to memory of its own, before that communicator ends.
  void ReturnRows();

  // Embeds the rows of a new pass: `step`, loaded with one sequence at least, which stays unchanged
  // until the last layer has run. The pass has `groups.back()`'s last row + 1 rows.
  void Begin(const DeviceStep& step, absl::Span<const RowGroup> groups);

  // Runs layers [begin, end), where the last call ended, and admits the rows to `kv`.
  // `communicator` joins the model's ranks.
  absl::Status RunLayers(Communicator& communicator, KvStorage& kv, int begin, int end);

  // After the last layer: the normalised rows [rows, hidden], of which LlamaHead makes logits.
  // Valid until Begin.
  Tensor output() const { return normed_.Rows(0, rows_); }

  // Time that this object spent in all-reduces, host clock.
  absl::Duration all_reduce_time() const { return all_reduce_time_; }

 private:
  explicit LlamaForward(const LlamaModel* model) : model_(model) {}

  // Consecutive rows that are summed over the ranks at once.
  struct Part {
    int64_t first_row;
    int64_t rows;
    std::vector<RowGroup> groups;  // counted from first_row
  };

  // A rank's share of rows that are summed where ranks share them.
  struct Share {
    int rank;  // whose it is
    Part part;
    Tensor shared;  // where this rank's part of the sum goes, in that rank's memory
  };

  bool sums_shared_rows() const { return !shares_.empty(); }  // in this pass

  void SplitRows(const Communicator& communicator);
  void SplitShares(const Communicator& communicator);
  void Project(int layer);
  absl::Status Output(Communicator& communicator, const Part& part, int layer);
  absl::Status FeedForward(Communicator& communicator, const Part& part, int layer);
  absl::Status EndLayer(Communicator& communicator, const Part& part, int layer);
  // Multiplies x by this rank's weights and begins the sum over ranks, which AddSum adds to the
  // residual and normalises. Both for the rows of `part`, where tensors have those of the whole
  // pass.
  absl::Status MultiplyAndSum(Communicator& communicator, const Part& part, Tensor x,
                              const Matrix& weights);
  absl::Status AddSum(Communicator& communicator, const Part& part, Tensor norm_weight);

  const LlamaModel* model_;
  // Activations for max_rows each.
  Tensor residual_;    // float32 [hidden]
  Tensor normed_;      // [hidden]
  Tensor delta_;       // [hidden] what a part of a layer adds to the residual
  Tensor qkv_;         // [(query_heads + 2 kv_heads) * head_dim]
  Tensor attention_;   // [query_heads * head_dim]
  Tensor row_scores_;  // float32 [kv_heads, max_rows]
  Tensor gate_up_;     // [2 * feed_forward], scratch of MatMulSwiGlu
  Tensor activated_;   // [feed_forward]

  Tensor own_normed_;                  // what normed_ is without a group that shares rows
  std::vector<Tensor> shared_deltas_;  // as of SharedRows; empty without such a group

  int64_t rows_ = 0;
  std::vector<Part> parts_;
  bool fuses_norm_ = false;    // in this pass, sum over ranks and norm are one
  std::vector<Share> shares_;  // in the order in which they are multiplied
  const DeviceStep* step_ = nullptr;
  std::vector<RowGroup> groups_;
  absl::Duration all_reduce_time_;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_H_
