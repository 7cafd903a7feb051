#include "tests/testing/llama_gguf.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/byte_level_tokenizer.h"

namespace weir {
namespace {

// Adds matrix [rows, columns]; `row_of(i)` is the row to write as the file's row i.
template <typename RowOf>
void AddRows(GgufWriter& writer, const std::string& name, WeightType type,
             const std::vector<double>& weights, int columns, RowOf row_of) {
  const int rows = static_cast<int>(weights.size()) / columns;
  std::vector<float> values;
  values.reserve(weights.size());
  for (int i = 0; i < rows; ++i) {
    const auto row = weights.begin() + static_cast<int64_t>(row_of(i)) * columns;
    values.insert(values.end(), row, row + columns);
  }
  writer.AddTensor(name, type, {columns, rows}, values);
}

void AddMatrix(GgufWriter& writer, const std::string& name, WeightType type,
               const std::vector<double>& weights, int columns) {
  AddRows(writer, name, type, weights, columns, [](int row) { return row; });
}

// The file rotates dimension 2 i of a head together with 2 i + 1; the model, i with
// i + head_dim / 2.
void AddRotatedMatrix(GgufWriter& writer, const std::string& name, WeightType type,
                      const std::vector<double>& weights, int columns, int head_dim) {
  AddRows(writer, name, type, weights, columns, [head_dim](int row) {
    const int dim = row % head_dim;
    return row - dim + dim / 2 + (dim % 2) * (head_dim / 2);
  });
}

void AddNorm(GgufWriter& writer, const std::string& name, const std::vector<double>& weights) {
  const std::vector<float> values(weights.begin(), weights.end());
  writer.AddTensor(name, WeightType::kF32, {static_cast<int64_t>(values.size())}, values);
}

}  // namespace

GgufWriter MakeLlamaGguf(const NaiveLlamaModel& model, const LlamaGgufOptions& options) {
  const NaiveLlamaConfig& config = model.config;
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddString("general.name", "Test Llama");
  writer.AddUint32("llama.block_count", config.layers);
  writer.AddUint32("llama.context_length", options.positions);
  writer.AddUint32("llama.embedding_length", config.hidden);
  writer.AddUint32("llama.feed_forward_length", config.ffn);
  writer.AddUint32("llama.attention.head_count", config.heads);
  writer.AddUint32("llama.attention.head_count_kv", config.kv_heads);
  writer.AddUint32("llama.attention.key_length", config.head_dim);
  writer.AddUint32("llama.attention.value_length", config.head_dim);
  writer.AddUint32("llama.rope.dimension_count", config.head_dim);
  writer.AddFloat32("llama.rope.freq_base", static_cast<float>(config.rope_base));
  writer.AddFloat32("llama.attention.layer_norm_rms_epsilon",
                    static_cast<float>(config.rms_epsilon));
  writer.AddUint32("llama.vocab_size", config.vocabulary);
  if (config.vocabulary >= kLeastVocabulary) AddByteLevelTokenizer(writer, config.vocabulary);

  const int attention_width = config.heads * config.head_dim;
  AddMatrix(writer, "token_embd.weight", options.embedding, model.embedding, config.hidden);
  for (int i = 0; i < config.layers; ++i) {
    const NaiveLlamaLayer& layer = model.layers[i];
    const std::string block = absl::StrCat("blk.", i, ".");
    const WeightType type = options.matrices;
    AddNorm(writer, block + "attn_norm.weight", layer.attention_norm);
    AddRotatedMatrix(writer, block + "attn_q.weight", type, layer.query, config.hidden,
                     config.head_dim);
    AddRotatedMatrix(writer, block + "attn_k.weight", type, layer.key, config.hidden,
                     config.head_dim);
    AddMatrix(writer, block + "attn_v.weight", type, layer.value, config.hidden);
    AddMatrix(writer, block + "attn_output.weight", type, layer.output, attention_width);
    AddNorm(writer, block + "ffn_norm.weight", layer.ffn_norm);
    AddMatrix(writer, block + "ffn_gate.weight", type, layer.gate, config.hidden);
    AddMatrix(writer, block + "ffn_up.weight", type, layer.up, config.hidden);
    AddMatrix(writer, block + "ffn_down.weight", type, layer.down, config.ffn);
  }
  AddNorm(writer, "output_norm.weight", model.final_norm);
  if (!model.classifier.empty()) {
    AddMatrix(writer, "output.weight", options.embedding, model.classifier, config.hidden);
  }
  return writer;
}

}  // namespace weir
