#ifndef WEIR_WORKER_MODEL_LLAMA_HEAD_H_
#define WEIR_WORKER_MODEL_LLAMA_HEAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/model/llama.h"

namespace weir {

// The vocabulary projection of normalised rows (LlamaForward::output), split by tokens over the
// ranks. Every rank of the model makes the same calls; results are on rank 0. Driven by the
// engine's thread.
class LlamaHead {
 public:
  // Projects up to `max_rows` rows at a time. `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<LlamaHead>> Create(const LlamaModel* model, int max_rows);

  // Enqueues the projection of `rows`, at most max_rows of them, and their gathering. Each row is a
  // group of its own: the same row gives the same logits, whatever it comes with.
  absl::Status Project(Communicator& communicator, Tensor rows);

  // The logits that the latest Project, of `rows` rows, made: rows of `vocabulary` values; nothing
  // on other ranks than 0. Waits for everything enqueued.
  absl::StatusOr<std::vector<std::vector<float>>> ReadLogits(const Communicator& communicator,
                                                             int64_t rows);

  // The natural log-probability of targets[r] after rows[r]; nothing on other ranks than 0. Any
  // number of rows, max_rows at a time. Waits; takes the place of what Project made.
  absl::StatusOr<std::vector<float>> Score(Communicator& communicator, Tensor rows,
                                           absl::Span<const int32_t> targets);

 private:
  explicit LlamaHead(const LlamaModel* model) : model_(model) {}

  const LlamaModel* model_;
  std::vector<RowGroup> single_rows_;  // [max_rows]
  Tensor logits_;                      // float32 [max_rows, shard rows]
  Tensor gathered_;          // float32 [ranks * max_rows, shard rows]; with one rank, logits_
  std::vector<float> host_;  // as many values as gathered_
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_HEAD_H_
