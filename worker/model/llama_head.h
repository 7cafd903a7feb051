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
// ranks. Works in tiles of rows, so memory does not grow with the rows asked for. Every rank of the
// model makes the same calls; results are on rank 0. Driven by the engine's thread.
class LlamaHead {
 public:
  // Rows projected at a time.
  static constexpr int kTileRows = 32;

  // `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<LlamaHead>> Create(const LlamaModel* model);

  // Logits of every row, as rows of `vocabulary` values; nothing on other ranks than 0. Each row is
  // a group of its own: the same row gives the same logits, whatever it comes with.
  absl::StatusOr<std::vector<std::vector<float>>> Logits(Communicator& communicator, Tensor rows);

  // The natural log-probability of targets[r] after rows[r]; nothing on other ranks than 0.
  absl::StatusOr<std::vector<float>> Score(Communicator& communicator, Tensor rows,
                                           absl::Span<const int32_t> targets);

 private:
  explicit LlamaHead(const LlamaModel* model) : model_(model) {}

  const LlamaModel* model_;
  Tensor logits_;            // float32 [kTileRows, shard rows]
  Tensor gathered_;          // float32 [ranks * kTileRows, shard rows]; with one rank, logits_
  std::vector<float> host_;  // as many values as gathered_
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_HEAD_H_
