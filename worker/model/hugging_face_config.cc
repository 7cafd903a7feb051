#include "worker/model/hugging_face_config.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/model/byte_reader.h"
#include "worker/model/json_object_reader.h"
#include "worker/model/mapped_file.h"

namespace weir {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxVocabulary = int64_t{1} << 22;
constexpr int64_t kMaxSize = int64_t{1} << 20;
constexpr int64_t kMaxPositions = int64_t{1} << 24;

// Llama 3.1 stretches the slow rotations: pairs that turn less than `low` times in the original
// context are slowed down by `factor`, those that turn more than `high` times not at all, those
// between in proportion.
std::vector<float> Llama3Divisors(JsonObjectReader& scaling, const LlamaConfig& llama) {
  const double factor = scaling.Number("factor", 1, 1e6);
  const double low = scaling.Number("low_freq_factor", 1e-3, 1e6);
  const double high = scaling.Number("high_freq_factor", 1e-3, 1e6);
  const double context = scaling.Integer("original_max_position_embeddings", 1, kMaxPositions);
  if (scaling.status().ok() && !(high > low)) {
    scaling.Fail(
        absl::InvalidArgumentError(absl::StrCat(scaling.name(), ": high_freq_factor is ", high,
                                                "; it must be above ", "low_freq_factor, ", low)));
  }
  std::vector<float> divisors(llama.head_dim / 2);
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double frequency = std::pow(llama.rope_base, -2.0 * i / llama.head_dim);
    const double turns = context * frequency / (2 * std::numbers::pi);
    double kept = 1;  // share of the pair's frequency that is not divided
    if (turns < low) {
      kept = 0;
    } else if (turns <= high) {
      kept = (turns - low) / (high - low);
    }
    divisors[i] = static_cast<float>(1 / ((1 - kept) / factor + kept));
  }
  return divisors;
}

// `config` has rope_scaling or, in newer files, rope_parameters, which hold rope_theta too.
void ReadRope(JsonObjectReader& config, LlamaConfig& llama) {
  constexpr double kDefaultBase = 10000, kLeastBase = 1, kMaxBase = 1e12;
  const char* const key = config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  llama.rope_base = config.Number("rope_theta", kLeastBase, kMaxBase, kDefaultBase);
  const nlohmann::json* object = config.Object(key);
  if (object == nullptr) return;

  JsonObjectReader scaling(absl::StrCat(config.name(), ": ", key), *object);
  llama.rope_base = scaling.Number("rope_theta", kLeastBase, kMaxBase, llama.rope_base);
  const std::string kind = scaling.String(scaling.Has("rope_type") ? "rope_type" : "type");
  if (kind == "linear") {
    llama.rope_scale = scaling.Number("factor", 1, 1e6);
  } else if (kind == "llama3") {
    llama.rope_divisors = Llama3Divisors(scaling, llama);
  } else if (kind != "default") {
    scaling.Fail(absl::UnimplementedError(
        absl::StrCat(scaling.name(), " is of type ", QuoteName(kind),
                     ", which Weir does not support; it supports 'default', 'linear' and "
                     "'llama3'")));
  }
  config.Fail(scaling.status());
}

// What makes a model of these architectures compute something else than Weir's Llama.
void RefuseVariants(JsonObjectReader& config) {
  const std::string architecture = config.OnlyString("architectures");
  if (config.status().ok() && architecture != "LlamaForCausalLM" &&
      architecture != "MistralForCausalLM") {
    config.Fail(absl::UnimplementedError(
        absl::StrCat(config.name(), ": the architecture is ", QuoteName(architecture),
                     "; Weir runs 'LlamaForCausalLM' and 'MistralForCausalLM'")));
  }
  const std::string activation = config.String("hidden_act");
  if (!activation.empty() && activation != "silu") {
    config.Fail(absl::UnimplementedError(absl::StrCat(
        config.name(), ": hidden_act is ", QuoteName(activation), "; Weir runs 'silu'")));
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (config.Bool(key, false)) {
      config.Fail(absl::UnimplementedError(
          absl::StrCat(config.name(), ": ", key, " is set; Weir's Llama has no biases")));
    }
  }
  if (config.Has("sliding_window")) {
    config.Fail(absl::UnimplementedError(absl::StrCat(
        config.name(), ": sliding_window is set; Weir's Llama attends to all that it remembers")));
  }
}

void ReadHeads(JsonObjectReader& config, LlamaConfig& llama) {
  llama.query_heads = static_cast<int>(config.Integer("num_attention_heads", 1, kMaxSize));
  llama.kv_heads =
      static_cast<int>(config.Integer("num_key_value_heads", 1, kMaxSize, llama.query_heads));
  if (llama.query_heads % llama.kv_heads != 0) {
    config.Fail(absl::InvalidArgumentError(
        absl::StrCat(config.name(), ": num_attention_heads is ", llama.query_heads,
                     "; it must be a multiple of num_key_value_heads, ", llama.kv_heads)));
  }
  if (!config.Has("head_dim") && llama.hidden % llama.query_heads != 0) {
    config.Fail(absl::InvalidArgumentError(absl::StrCat(
        config.name(), ": hidden_size is ", llama.hidden,
        "; without head_dim it must be a multiple of num_attention_heads, ", llama.query_heads)));
  }
  llama.head_dim = static_cast<int>(
      config.Integer("head_dim", 2, kMaxSize, std::max(2, llama.hidden / llama.query_heads)));
  if (llama.head_dim % 2 != 0) {
    config.Fail(absl::UnimplementedError(absl::StrCat(config.name(), ": heads are ", llama.head_dim,
                                                      " wide; Weir needs an even width")));
  }
}

}  // namespace

absl::StatusOr<HuggingFaceConfig> ParseHuggingFaceConfig(const std::string& path,
                                                         absl::string_view text) {
  const nlohmann::json json =
      nlohmann::json::parse(text.begin(), text.end(), /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a JSON object"));
  }
  JsonObjectReader reader(path, json);
  HuggingFaceConfig config;
  LlamaConfig& llama = config.llama;
  RefuseVariants(reader);
  llama.layers = static_cast<int>(reader.Integer("num_hidden_layers", 1, kMaxLayers));
  llama.hidden = static_cast<int>(reader.Integer("hidden_size", 1, kMaxSize));
  ReadHeads(reader, llama);
  llama.feed_forward = static_cast<int>(reader.Integer("intermediate_size", 1, kMaxSize));
  llama.vocabulary = static_cast<int>(reader.Integer("vocab_size", 1, kMaxVocabulary));
  llama.positions = static_cast<int>(reader.Integer("max_position_embeddings", 1, kMaxPositions));
  llama.norm_epsilon = static_cast<float>(reader.Number("rms_norm_eps", 1e-12, 1));
  config.tied_embeddings = reader.Bool("tie_word_embeddings", false);
  ReadRope(reader, llama);
  if (!reader.status().ok()) return reader.status();
  return config;
}

absl::StatusOr<HuggingFaceConfig> ReadHuggingFaceConfig(const std::string& path) {
  const absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const absl::Span<const std::byte> bytes = file->bytes();
  if (bytes.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has ", bytes.size(), " bytes; a config.json has at most ", kMaxFileBytes));
  }
  return ParseHuggingFaceConfig(
      path, absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace weir
