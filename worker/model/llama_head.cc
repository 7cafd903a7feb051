#include "worker/model/llama_head.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace weir {
namespace {

// What one rank's part of the vocabulary says about one row.
struct PartialSoftmax {
  float max = -std::numeric_limits<float>::infinity();     // largest logit
  float target = -std::numeric_limits<float>::infinity();  // the target's logit, if it is here
  double sum = 0;                                          // of exp(logit - max)
};

PartialSoftmax Reduce(absl::Span<const float> logits, int64_t target) {
  PartialSoftmax partial;
  for (float logit : logits) partial.max = std::max(partial.max, logit);
  for (float logit : logits) partial.sum += std::exp(logit - partial.max);
  if (target >= 0 && target < static_cast<int64_t>(logits.size())) partial.target = logits[target];
  return partial;
}

// The log-probability that the ranks' parts for one row make together.
float Combine(absl::Span<const PartialSoftmax> partials) {
  PartialSoftmax whole;
  for (const PartialSoftmax& part : partials) {
    whole.max = std::max(whole.max, part.max);
    whole.target = std::max(whole.target, part.target);
  }
  for (const PartialSoftmax& part : partials) {
    if (part.sum > 0) whole.sum += part.sum * std::exp(double{part.max} - whole.max);
  }
  return static_cast<float>(double{whole.target} - whole.max - std::log(whole.sum));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LlamaHead>> LlamaHead::Create(const LlamaModel* model,
                                                             int max_rows) {
  std::unique_ptr<LlamaHead> head(new LlamaHead(model));
  for (int row = 0; row < max_rows; ++row) head->single_rows_.push_back({row, 1});
  Backend& backend = model->backend();
  const int64_t width = model->weights().shard.rows;
  const int64_t ranks = model->ranks();
  absl::StatusOr<Tensor> logits = backend.AllocateTensor(ElementType::kFloat32, max_rows, width);
  if (!logits.ok()) return logits.status();
  head->logits_ = *logits;
  head->gathered_ = *logits;
  if (ranks > 1) {
    absl::StatusOr<Tensor> gathered =
        backend.AllocateTensor(ElementType::kFloat32, ranks * max_rows, width);
    if (!gathered.ok()) return gathered.status();
    head->gathered_ = *gathered;
  }
  head->host_.resize(head->gathered_.elements());
  return head;
}

absl::Status LlamaHead::Project(Communicator& communicator, Tensor rows) {
  assert(rows.rows > 0 && rows.rows <= logits_.rows);

  const Tensor logits = logits_.Rows(0, rows.rows);
  model_->backend().MatMul(absl::MakeConstSpan(single_rows_).first(rows.rows), rows,
                           *model_->weights().output, logits);
  if (communicator.size() == 1) return absl::OkStatus();
  return communicator.AllGather(logits, gathered_.Rows(0, communicator.size() * rows.rows));
}

absl::StatusOr<std::vector<std::vector<float>>> LlamaHead::ReadLogits(
    const Communicator& communicator, int64_t rows) {
  std::vector<std::vector<float>> result;
  if (communicator.rank() != 0) return result;
  const int64_t width = logits_.cols;
  const Tensor gathered = gathered_.Rows(0, communicator.size() * rows);
  const absl::Span<float> host = absl::MakeSpan(host_.data(), gathered.elements());
  absl::Status status = model_->backend().CopyToHost(gathered, host);
  if (!status.ok()) return status;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<float> whole;
    whole.reserve(communicator.size() * width);
    for (int rank = 0; rank < communicator.size(); ++rank) {
      const float* part = host.data() + (rank * rows + row) * width;
      whole.insert(whole.end(), part, part + width);
    }
    whole.resize(model_->config().vocabulary);  // cuts off the padding, which is at the end
    result.push_back(std::move(whole));
  }
  return result;
}

absl::StatusOr<std::vector<float>> LlamaHead::Score(Communicator& communicator, Tensor rows,
                                                    absl::Span<const int32_t> targets) {
  assert(rows.rows == static_cast<int64_t>(targets.size()));

  Backend& backend = model_->backend();
  const VocabularyShard& shard = model_->weights().shard;
  std::vector<PartialSoftmax> partials;
  partials.reserve(rows.rows);
  for (int64_t first = 0; first < rows.rows; first += logits_.rows) {
    const int count = static_cast<int>(std::min(logits_.rows, rows.rows - first));
    const Tensor logits = logits_.Rows(0, count);
    const RowGroup group = {0, count};
    backend.MatMul({&group, 1}, rows.Rows(first, count), *model_->weights().output, logits);
    const absl::Span<float> host = absl::MakeSpan(host_.data(), logits.elements());
    if (absl::Status status = backend.CopyToHost(logits, host); !status.ok()) return status;
    for (int row = 0; row < count; ++row) {
      partials.push_back(Reduce(host.subspan(row * logits.cols, shard.tokens),
                                targets[first + row] - shard.first));
    }
  }

  std::string bytes(partials.size() * sizeof(PartialSoftmax), '\0');
  std::memcpy(bytes.data(), partials.data(), bytes.size());
  absl::StatusOr<std::vector<std::string>> gathered = communicator.Gather(bytes);
  if (!gathered.ok()) return gathered.status();
  if (communicator.rank() != 0) return std::vector<float>();
  std::vector<float> scores;
  std::vector<PartialSoftmax> parts(communicator.size());
  for (int64_t row = 0; row < rows.rows; ++row) {
    for (int rank = 0; rank < communicator.size(); ++rank) {
      if ((*gathered)[rank].size() != bytes.size()) {
        return absl::InternalError("a rank scored another number of tokens than the leader");
      }
      std::memcpy(&parts[rank], (*gathered)[rank].data() + row * sizeof(PartialSoftmax),
                  sizeof(PartialSoftmax));
    }
    scores.push_back(Combine(parts));
  }
  return scores;
}

}  // namespace weir
