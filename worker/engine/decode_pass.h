#ifndef WEIR_WORKER_ENGINE_DECODE_PASS_H_
#define WEIR_WORKER_ENGINE_DECODE_PASS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/model/llama.h"
#include "worker/model/llama_head.h"

namespace weir {

// The pass of a step in which every session has one lane: sessions that read one token, then
// sessions that read none and only ask for what follows. All of it, the logits of all lanes and
// their summaries included, is the same work for the same number of rows, so it can be recorded
// once and replayed (Backend::Replay). All memory is allocated by Create. Driven by the engine's
// thread; every rank makes the same calls.
class DecodePass {
 public:
  // Room for a lane of every session in `kv`. `last_rows` [sessions, hidden] holds each session's
  // output row of its last token. `model` and `kv` outlive this object.
  static absl::StatusOr<std::unique_ptr<DecodePass>> Create(const LlamaModel* model, KvStorage* kv,
                                                            Tensor last_rows);

  // Records the pass for every number of lanes, so that nothing is left to allocate later.
  absl::Status Record(Communicator& communicator);

  // Enqueues the pass: sequence i is lane i; the first tokens.size() of them read one row each, the
  // others none. Keeps the last rows of those that read, and reduces the logits that follow each
  // lane as requests[lane] says, if any lane has a request.
  absl::Status Run(Communicator& communicator, absl::Span<const int32_t> tokens,
                   absl::Span<const SequenceStep> sequences,
                   absl::Span<const std::optional<LikeliestRequest>> requests);

  // What was asked of the latest pass, by lane, as LlamaHead::Read.
  absl::StatusOr<std::vector<LogitsSummary>> Read(const Communicator& communicator) {
    return head_->Read(communicator, rows_);
  }

  // Bytes of the backend's memory that a lane takes, without DeviceStep and DeviceRequests.
  int64_t bytes_per_lane() const {
    return forward_->bytes_per_row() + head_->bytes_per_row() +
           head_rows_.cols * ElementBytes(head_rows_.type);
  }

  absl::Duration all_reduce_time() const { return forward_->all_reduce_time(); }

 private:
  DecodePass(const LlamaModel* model, KvStorage* kv, Tensor last_rows)
      : model_(model), kv_(kv), last_rows_(last_rows) {}

  absl::Status EnqueueAll(Communicator& communicator, int rows);
  void EnqueueHead(int rows);

  const LlamaModel* model_;
  KvStorage* kv_;
  Tensor last_rows_;
  std::unique_ptr<LlamaForward> forward_;
  std::unique_ptr<DeviceStep> step_;
  std::unique_ptr<LlamaHead> head_;
  Tensor head_rows_;                        // [most rows, hidden] the last rows, by lane
  std::vector<RowGroup> single_rows_;       // [most rows]
  std::vector<LikeliestRequest> requests_;  // by lane
  int rows_ = 0;                            // of the latest pass
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_DECODE_PASS_H_
