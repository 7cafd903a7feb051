#ifndef WEIR_WORKER_MODEL_LLAMA_HEAD_H_
#define WEIR_WORKER_MODEL_LLAMA_HEAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/likeliest.h"
#include "kernels/likeliest_merge.h"
#include "worker/model/llama.h"

namespace weir {

// The vocabulary projection of normalised rows (LlamaForward::output), split by tokens over the
// ranks, and what is asked of each row's logits, which never leave the device:
//
//   head.Ask(requests);
//   head.Project(rows);                 // may be recorded
//   head.Gather(communicator, rows.rows);
//   summaries = head.Read(communicator, rows.rows);
//
// Every rank of the model makes the same calls; results are on rank 0. Driven by the engine's
// thread.
class LlamaHead {
 public:
  // Projects up to `max_rows` rows at a time. `model` outlives this object.
  static absl::StatusOr<std::unique_ptr<LlamaHead>> Create(const LlamaModel* model, int max_rows);

  // Bytes of the backend's memory that a row of max_rows takes, without its DeviceRequests.
  int64_t bytes_per_row() const;

  // What is asked of the rows that come next, from the first on; of further rows nothing.
  void Ask(absl::Span<const LikeliestRequest> requests);

  // Enqueues the projection of `rows`, at most max_rows of them, and its reduction. Each row is a
  // group of its own: the same row gives the same summary, whatever it comes with.
  void Project(Tensor rows);

  // Enqueues the gathering of what the latest Project, of `rows` rows, made.
  absl::Status Gather(Communicator& communicator, int64_t rows);

  // The summaries that were asked for and gathered, by row; nothing on other ranks than 0, which do
  // not wait. Waits for everything enqueued.
  absl::StatusOr<std::vector<LogitsSummary>> Read(const Communicator& communicator, int64_t rows);

  // The natural log-probability of targets[r] after rows[r]; nothing on other ranks than 0. Any
  // number of rows, max_rows at a time. Waits; takes the place of what was asked and projected.
  absl::StatusOr<std::vector<float>> Score(Communicator& communicator, Tensor rows,
                                           absl::Span<const int32_t> targets);

 private:
  explicit LlamaHead(const LlamaModel* model) : model_(model) {}

  void ProjectGroups(absl::Span<const RowGroup> groups, Tensor rows);
  // The lines of `rows` rows' summary tensors in `tensor`: `ranks` of them, one after another.
  Tensor Lines(Tensor tensor, int64_t rows, int ranks) const;

  const LlamaModel* model_;
  std::vector<RowGroup> single_rows_;  // [max_rows]
  Tensor logits_;                      // float32 [max_rows, shard rows]
  Tensor summaries_;                   // the summary tensor of max_rows rows
  Tensor gathered_;                    // [ranks] such tensors; with one rank, summaries_
  std::unique_ptr<DeviceRequests> device_requests_;
  std::vector<LikeliestRequest> requests_;
  int most_ = 1;             // likeliest tokens that any of them asks for
  std::vector<float> host_;  // what Read copies
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_HEAD_H_
