#include "worker/model/llama_weights.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/dequantize.h"
#include "worker/model/weight_rows.h"

namespace weir {
namespace {

class WeightLoader {
 public:
  WeightLoader(const GgufFile& file, const LlamaConfig& config, int rank, int ranks,
               Backend& backend)
      : file_(file), config_(config), rank_(rank), ranks_(ranks), backend_(backend) {}

  absl::StatusOr<LlamaWeights> Load();

 private:
  absl::Status LoadLayer(int layer, LayerWeights& weights);
  absl::Status LoadQkv(const std::string& prefix, std::unique_ptr<Matrix>& matrix);
  absl::Status LoadGateUp(const std::string& prefix, std::unique_ptr<Matrix>& matrix);
  absl::Status LoadColumns(const std::string& name, int64_t inputs,
                           std::unique_ptr<Matrix>& matrix);
  absl::Status LoadNorm(const std::string& name, Tensor& vector);
  absl::Status LoadVocabulary(LlamaWeights& weights);
  absl::Status CheckAllUsed() const;

  // The tensor of that name with exactly these dimensions.
  absl::StatusOr<const GgufTensor*> Find(const std::string& name, std::vector<int64_t> dims);
  absl::Status Multiply(const std::vector<WeightRow>& rows, int64_t cols, const std::string& name,
                        std::unique_ptr<Matrix>& matrix);
  // `status` with file and tensor before its message.
  absl::Status InTensor(const absl::Status& status, const std::string& name) const {
    return absl::Status(status.code(),
                        absl::StrCat(file_.path(), ": ", name, ": ", status.message()));
  }

  const GgufFile& file_;
  const LlamaConfig& config_;
  const int rank_;
  const int ranks_;
  Backend& backend_;
  absl::flat_hash_set<std::string> used_ = {"rope_freqs.weight"};
};

absl::StatusOr<const GgufTensor*> WeightLoader::Find(const std::string& name,
                                                     std::vector<int64_t> dims) {
  const GgufTensor* tensor = file_.Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": tensor ", name, " is missing"));
  }
  if (tensor->dims != dims) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_.path(), ": tensor ", name, " is [", absl::StrJoin(tensor->dims, ", "),
                     "]; the model's sizes make it [", absl::StrJoin(dims, ", "), "]"));
  }
  used_.insert(name);
  return tensor;
}

absl::Status WeightLoader::Multiply(const std::vector<WeightRow>& rows, int64_t cols,
                                    const std::string& name, std::unique_ptr<Matrix>& matrix) {
  absl::StatusOr<std::unique_ptr<Matrix>> loaded = backend_.LoadMatrix(rows, cols);
  if (!loaded.ok()) return InTensor(loaded.status(), name);
  matrix = *std::move(loaded);
  return absl::OkStatus();
}

absl::Status WeightLoader::LoadQkv(const std::string& prefix, std::unique_ptr<Matrix>& matrix) {
  const int64_t head_dim = config_.head_dim;
  const absl::StatusOr<const GgufTensor*> query =
      Find(prefix + "attn_q.weight", {config_.hidden, config_.query_heads * head_dim});
  if (!query.ok()) return query.status();
  const absl::StatusOr<const GgufTensor*> key =
      Find(prefix + "attn_k.weight", {config_.hidden, config_.kv_heads * head_dim});
  if (!key.ok()) return key.status();
  const absl::StatusOr<const GgufTensor*> value =
      Find(prefix + "attn_v.weight", {config_.hidden, config_.kv_heads * head_dim});
  if (!value.ok()) return value.status();

  const int query_heads = config_.query_heads / ranks_;
  const int kv_heads = config_.kv_heads / ranks_;
  std::vector<WeightRow> rows;
  rows.reserve((query_heads + 2 * kv_heads) * head_dim);
  AppendRotatedHeads(**query, config_.head_dim, rank_ * query_heads, query_heads, rows);
  AppendRotatedHeads(**key, config_.head_dim, rank_ * kv_heads, kv_heads, rows);
  AppendRows(**value, rank_ * kv_heads * head_dim, kv_heads * head_dim, rows);
  return Multiply(rows, config_.hidden, prefix + "attn_q.weight", matrix);
}

absl::Status WeightLoader::LoadGateUp(const std::string& prefix, std::unique_ptr<Matrix>& matrix) {
  const int64_t share = config_.feed_forward / ranks_;
  std::vector<WeightRow> rows;
  rows.reserve(2 * share);
  for (const char* part : {"ffn_gate.weight", "ffn_up.weight"}) {
    const absl::StatusOr<const GgufTensor*> tensor =
        Find(prefix + part, {config_.hidden, config_.feed_forward});
    if (!tensor.ok()) return tensor.status();
    AppendRows(**tensor, rank_ * share, share, rows);
  }
  return Multiply(rows, config_.hidden, prefix + "ffn_gate.weight", matrix);
}

absl::Status WeightLoader::LoadColumns(const std::string& name, int64_t inputs,
                                       std::unique_ptr<Matrix>& matrix) {
  const absl::StatusOr<const GgufTensor*> tensor = Find(name, {inputs, config_.hidden});
  if (!tensor.ok()) return tensor.status();
  const int64_t share = inputs / ranks_;
  const ColumnSlice slice(**tensor, rank_ * share, share);
  return Multiply(slice.rows(), share, name, matrix);
}

absl::Status WeightLoader::LoadNorm(const std::string& name, Tensor& vector) {
  const absl::StatusOr<const GgufTensor*> tensor = Find(name, {config_.hidden});
  if (!tensor.ok()) return tensor.status();
  std::vector<float> values(config_.hidden);
  DequantizeRow((*tensor)->type, (*tensor)->data, absl::MakeSpan(values));
  absl::StatusOr<Tensor> loaded = backend_.LoadVector(values);
  if (!loaded.ok()) return InTensor(loaded.status(), name);
  vector = *loaded;
  return absl::OkStatus();
}

absl::Status WeightLoader::LoadLayer(int layer, LayerWeights& weights) {
  const std::string prefix = absl::StrCat("blk.", layer, ".");
  const int64_t heads_width = int64_t{config_.query_heads} * config_.head_dim;
  absl::Status status = LoadNorm(prefix + "attn_norm.weight", weights.attention_norm);
  if (status.ok()) status = LoadQkv(prefix, weights.qkv);
  if (status.ok()) status = LoadColumns(prefix + "attn_output.weight", heads_width, weights.output);
  if (status.ok()) status = LoadNorm(prefix + "ffn_norm.weight", weights.feed_forward_norm);
  if (status.ok()) status = LoadGateUp(prefix, weights.gate_up);
  if (status.ok()) {
    status = LoadColumns(prefix + "ffn_down.weight", config_.feed_forward, weights.down);
  }
  return status;
}

absl::Status WeightLoader::LoadVocabulary(LlamaWeights& weights) {
  const std::vector<int64_t> dims = {config_.hidden, config_.vocabulary};
  const absl::StatusOr<const GgufTensor*> embedding = Find("token_embd.weight", dims);
  if (!embedding.ok()) return embedding.status();
  std::vector<WeightRow> rows;
  rows.reserve(config_.vocabulary);
  AppendRows(**embedding, 0, config_.vocabulary, rows);
  absl::StatusOr<std::unique_ptr<Matrix>> table = backend_.LoadTable(rows, config_.hidden);
  if (!table.ok()) return InTensor(table.status(), "token_embd.weight");
  weights.embedding = *std::move(table);

  // A file without an output projection uses the embedding for it.
  const std::string name =
      file_.Find("output.weight") == nullptr ? "token_embd.weight" : "output.weight";
  const absl::StatusOr<const GgufTensor*> output = Find(name, dims);
  if (!output.ok()) return output.status();
  weights.shard = ShardVocabulary(config_.vocabulary, rank_, ranks_);
  const std::vector<float> zeros(config_.hidden, 0.0f);
  rows.clear();
  AppendRows(**output, weights.shard.first, weights.shard.tokens, rows);
  rows.resize(weights.shard.rows,
              {reinterpret_cast<const std::byte*>(zeros.data()), WeightType::kF32});
  return Multiply(rows, config_.hidden, name, weights.output);
}

absl::Status WeightLoader::CheckAllUsed() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (!used_.contains(tensor.name)) {
      return absl::UnimplementedError(absl::StrCat(
          file_.path(), ": Weir's Llama has no use for tensor ", QuoteName(tensor.name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LlamaWeights> WeightLoader::Load() {
  LlamaWeights weights;
  // Push one at a time: an impossible number of layers ends at the first that the file lacks.
  for (int layer = 0; layer < config_.layers; ++layer) {
    weights.layers.emplace_back();
    if (absl::Status status = LoadLayer(layer, weights.layers.back()); !status.ok()) return status;
  }
  absl::Status status = LoadNorm("output_norm.weight", weights.output_norm);
  if (status.ok()) status = LoadVocabulary(weights);
  if (status.ok()) status = CheckAllUsed();
  if (!status.ok()) return status;
  return weights;
}

}  // namespace

VocabularyShard ShardVocabulary(int vocabulary, int rank, int ranks) {
  const int rows = (vocabulary + ranks - 1) / ranks;
  const int first = std::min(vocabulary, rank * rows);
  return {.first = first, .tokens = std::min(rows, vocabulary - first), .rows = rows};
}

absl::StatusOr<LlamaWeights> LoadLlamaWeights(const GgufFile& file, const LlamaConfig& config,
                                              int rank, int ranks, Backend& backend) {
  if (absl::Status status = ValidateTensorParallel(config, ranks); !status.ok()) return status;
  return WeightLoader(file, config, rank, ranks, backend).Load();
}

}  // namespace weir
