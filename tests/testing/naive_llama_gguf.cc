#include "tests/testing/naive_llama_gguf.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/dequantize.h"
#include "kernels/weight_type.h"
#include "worker/model/gguf.h"

namespace weir {

namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "ReadNaiveLlama: %s\n", value.status().ToString().c_str());
  std::abort();
}

std::vector<double> ReadTensor(const GgufFile& file, const std::string& name) {
  const GgufTensor* tensor = file.Find(name);
  if (tensor == nullptr) {
    std::fprintf(stderr, "ReadNaiveLlama: no tensor %s\n", name.c_str());
    std::abort();
  }
  int64_t weights = 1;
  for (const int64_t dim : tensor->dims) weights *= dim;
  std::vector<float> values(weights);
  DequantizeRow(tensor->type, tensor->data, absl::MakeSpan(values));
  return std::vector<double>(values.begin(), values.end());
}

// A file turns row 2 d of a head together with row 2 d + 1; the naive Llama, row d with row
// d + head_dim / 2.
std::vector<double> ReadRotatedTensor(const GgufFile& file, const std::string& name,
                                      const NaiveLlamaConfig& config) {
  const std::vector<double> interleaved = ReadTensor(file, name);
  const int rows = static_cast<int>(interleaved.size()) / config.hidden;
  std::vector<double> halves;
  halves.reserve(interleaved.size());
  for (int head = 0; head < rows / config.head_dim; ++head) {
    for (int half = 0; half < 2; ++half) {
      for (int d = 0; d < config.head_dim / 2; ++d) {
        const int64_t row = head * config.head_dim + 2 * d + half;
        const auto start = interleaved.begin() + row * config.hidden;
        halves.insert(halves.end(), start, start + config.hidden);
      }
    }
  }
  return halves;
}

}  // namespace

NaiveLlamaModel ReadNaiveLlama(const std::string& path) {
  const std::unique_ptr<GgufFile> file = ValueOrDie(GgufFile::Open(path));
  const auto integer = [&](const std::string& key) {
    return static_cast<int>(ValueOrDie(file->GetUint("llama." + key)));
  };
  NaiveLlamaModel model;
  NaiveLlamaConfig& config = model.config;
  config.layers = integer("block_count");
  config.hidden = integer("embedding_length");
  config.heads = integer("attention.head_count");
  config.kv_heads = integer("attention.head_count_kv");
  config.head_dim = integer("rope.dimension_count");
  config.ffn = integer("feed_forward_length");
  config.vocabulary = integer("vocab_size");
  config.rope_base = ValueOrDie(file->GetFloat("llama.rope.freq_base"));
  config.rms_epsilon = ValueOrDie(file->GetFloat("llama.attention.layer_norm_rms_epsilon"));

  model.embedding = ReadTensor(*file, "token_embd.weight");
  model.final_norm = ReadTensor(*file, "output_norm.weight");
  if (file->Find("output.weight") != nullptr) {
    model.classifier = ReadTensor(*file, "output.weight");
  }
  for (int i = 0; i < config.layers; ++i) {
    const std::string block = absl::StrCat("blk.", i, ".");
    model.layers.push_back({
        .attention_norm = ReadTensor(*file, block + "attn_norm.weight"),
        .query = ReadRotatedTensor(*file, block + "attn_q.weight", config),
        .key = ReadRotatedTensor(*file, block + "attn_k.weight", config),
        .value = ReadTensor(*file, block + "attn_v.weight"),
        .output = ReadTensor(*file, block + "attn_output.weight"),
        .ffn_norm = ReadTensor(*file, block + "ffn_norm.weight"),
        .gate = ReadTensor(*file, block + "ffn_gate.weight"),
        .up = ReadTensor(*file, block + "ffn_up.weight"),
        .down = ReadTensor(*file, block + "ffn_down.weight"),
    });
  }
  return model;
}

}  // namespace weir
