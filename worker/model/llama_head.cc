#include "worker/model/llama_head.h"

#include <algorithm>
#include <cassert>

namespace weir {

absl::StatusOr<std::unique_ptr<LlamaHead>> LlamaHead::Create(const LlamaModel* model,
                                                             int max_rows) {
  std::unique_ptr<LlamaHead> head(new LlamaHead(model));
  for (int row = 0; row < max_rows; ++row) head->single_rows_.push_back({row, 1});
  Backend& backend = model->backend();
  const int64_t width = model->weights().shard.rows;
  absl::StatusOr<Tensor> logits = backend.AllocateTensor(ElementType::kFloat32, max_rows, width);
  if (!logits.ok()) return logits.status();
  head->logits_ = *logits;
  const int64_t lines = SummaryLines(kMostLikeliest);
  absl::StatusOr<Tensor> summaries =
      backend.AllocateTensor(ElementType::kFloat32, lines, 2 * max_rows);
  if (!summaries.ok()) return summaries.status();
  head->summaries_ = *summaries;
  head->gathered_ = *summaries;
  if (const int64_t ranks = model->ranks(); ranks > 1) {
    absl::StatusOr<Tensor> gathered =
        backend.AllocateTensor(ElementType::kFloat32, ranks * lines, 2 * max_rows);
    if (!gathered.ok()) return gathered.status();
    head->gathered_ = *gathered;
  }
  head->host_.reserve(head->gathered_.elements());
  absl::StatusOr<std::unique_ptr<DeviceRequests>> requests =
      backend.AllocateRequests(max_rows, width);
  if (!requests.ok()) return requests.status();
  head->device_requests_ = *std::move(requests);
  return head;
}

int64_t LlamaHead::bytes_per_row() const {
  int64_t values = logits_.elements() + summaries_.elements();
  if (gathered_.data != summaries_.data) values += gathered_.elements();
  return values * ElementBytes(ElementType::kFloat32) / logits_.rows;
}

void LlamaHead::Ask(absl::Span<const LikeliestRequest> requests) {
  requests_.assign(requests.begin(), requests.end());
  most_ = 1;
  for (const LikeliestRequest& request : requests_) most_ = std::max(most_, request.likeliest);
  model_->backend().LoadRequests(requests_, *device_requests_);
}

void LlamaHead::Project(Tensor rows) {
  ProjectGroups(absl::MakeConstSpan(single_rows_).first(static_cast<size_t>(rows.rows)), rows);
}

void LlamaHead::ProjectGroups(absl::Span<const RowGroup> groups, Tensor rows) {
  assert(rows.rows > 0 && rows.rows <= logits_.rows);

  Backend& backend = model_->backend();
  const LlamaWeights& weights = model_->weights();
  const Tensor logits = logits_.Rows(0, rows.rows);
  backend.MatMul(groups, rows, *weights.output, logits);
  // A recording serves all requests, so there is room for the most that may be asked for.
  const Tensor out = {summaries_.data, ElementType::kFloat32, SummaryLines(kMostLikeliest),
                      2 * rows.rows};
  backend.SummarizeLogits(logits, weights.shard.first, weights.shard.tokens, *device_requests_,
                          out);
}

Tensor LlamaHead::Lines(Tensor tensor, int64_t rows, int ranks) const {
  return {tensor.data, ElementType::kFloat32, ranks * SummaryLines(most_), 2 * rows};
}

absl::Status LlamaHead::Gather(Communicator& communicator, int64_t rows) {
  if (communicator.size() == 1) return absl::OkStatus();
  return communicator.AllGather(Lines(summaries_, rows, 1),
                                Lines(gathered_, rows, communicator.size()));
}

absl::StatusOr<std::vector<LogitsSummary>> LlamaHead::Read(const Communicator& communicator,
                                                           int64_t rows) {
  std::vector<LogitsSummary> result;
  if (communicator.rank() != 0) return result;
  const Tensor gathered = Lines(gathered_, rows, communicator.size());
  host_.resize(gathered.elements());
  absl::Status status = model_->backend().CopyToHost(gathered, absl::MakeSpan(host_));
  if (!status.ok()) return status;
  for (size_t row = 0; row < requests_.size(); ++row) {
    result.push_back(MergeSummaries(host_, communicator.size(), static_cast<int>(rows), most_,
                                    static_cast<int>(row), requests_[row]));
  }
  return result;
}

absl::StatusOr<std::vector<float>> LlamaHead::Score(Communicator& communicator, Tensor rows,
                                                    absl::Span<const int32_t> targets) {
  assert(rows.rows == static_cast<int64_t>(targets.size()));

  std::vector<float> scores;
  for (int64_t first = 0; first < rows.rows; first += logits_.rows) {
    const int count = static_cast<int>(std::min(logits_.rows, rows.rows - first));
    std::vector<LikeliestRequest> requests(count);
    for (int row = 0; row < count; ++row) requests[row].target = targets[first + row];
    Ask(requests);
    const RowGroup group = {0, count};
    ProjectGroups({&group, 1}, rows.Rows(first, count));
    if (absl::Status status = Gather(communicator, count); !status.ok()) return status;
    absl::StatusOr<std::vector<LogitsSummary>> summaries = Read(communicator, count);
    if (!summaries.ok()) return summaries.status();
    for (const LogitsSummary& summary : *summaries) {
      scores.push_back(summary.LogProbability(summary.target_logit));
    }
  }
  return scores;
}

}  // namespace weir
