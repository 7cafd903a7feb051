#ifndef WEIR_WORKER_ENGINE_CHUNK_PASS_H_
#define WEIR_WORKER_ENGINE_CHUNK_PASS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/engine/step_plan.h"
#include "worker/model/llama.h"
#include "worker/model/llama_head.h"

namespace weir {

// The pass of one session's chunk through the layers, a few at a time, with activations of its own:
//
//   pass.Begin(chunk, sequence);
//   pass.RunLayers(communicator, 3);  // other passes may run between two calls
//   pass.RunLayers(communicator, pass.layers_left());
//   scores = pass.Finish(communicator);
//   summary = pass.ReadNext(communicator);  // if asked for
//   pass.Clear();
//
// How the layers are cut changes no result. While a chunk is in progress its session's layers
// disagree: nothing else may touch its cache. All memory is allocated by Create. Driven by the
// engine's thread; every rank makes the same calls.
class ChunkPass {
 public:
  // Room for the longest chunk of a session in `kv`. `last_rows` [sessions, hidden] holds each
  // session's output row of its last token. `model` and `kv` outlive this object.
  static absl::StatusOr<std::unique_ptr<ChunkPass>> Create(const LlamaModel* model, KvStorage* kv,
                                                           Tensor last_rows);

  bool in_progress() const { return chunk_.has_value(); }
  // Of the chunk in progress.
  const PlannedChunk& chunk() const { return *chunk_; }
  const SequenceStep& sequence() const { return sequence_; }
  int layers_left() const { return model_->config().layers - next_layer_; }

  // Prepares for the ranks of a new group, in which no chunk is in progress.
  absl::Status JoinGroup(Communicator& communicator) { return forward_->ShareRows(communicator); }
  // Abandons the chunk in progress, if any, and lets go of what the group has lent.
  void LeaveGroup() {
    Clear();
    forward_->ReturnRows();
  }

  // Enqueues the chunk's embedding; none is in progress. `sequence` is what its session's cache
  // plans for these tokens, as the rows from 0 on.
  void Begin(PlannedChunk chunk, SequenceStep sequence);

  // Enqueues the next `layers` layers.
  absl::Status RunLayers(Communicator& communicator, int layers);

  // After the last layer: keeps the last row, projects it if the chunk asks for what comes next,
  // and returns the scores if it asks for them (rank 0; NaN for a session's very first token),
  // which waits.
  absl::StatusOr<std::vector<float>> Finish(Communicator& communicator);

  // After Finish: what the chunk asked for of what comes next; nothing on other ranks than 0.
  // Waits.
  absl::StatusOr<std::optional<LogitsSummary>> ReadNext(const Communicator& communicator);

  // Forgets the chunk in progress, if any, finished or not.
  void Clear() { chunk_.reset(); }

  absl::Duration all_reduce_time() const { return forward_->all_reduce_time(); }

 private:
  // Rows projected at a time for scores.
  static constexpr int kScoreRows = 32;

  ChunkPass(const LlamaModel* model, KvStorage* kv, Tensor last_rows)
      : model_(model), kv_(kv), last_rows_(last_rows) {}

  absl::StatusOr<std::vector<float>> Score(Communicator& communicator);

  const LlamaModel* model_;
  KvStorage* kv_;
  Tensor last_rows_;
  std::unique_ptr<LlamaForward> forward_;
  std::unique_ptr<DeviceStep> step_;
  std::unique_ptr<LlamaHead> head_;
  Tensor score_rows_;  // [stride, hidden] rows to be scored, gathered

  std::optional<PlannedChunk> chunk_;
  SequenceStep sequence_;
  int next_layer_ = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_CHUNK_PASS_H_
