#include "worker/model/llama_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "kernels/dequantize.h"

namespace weir {
namespace {

// Far above any model, far below where products of sizes overflow an int64.
constexpr int64_t kMaxSize = int64_t{1} << 24;

// Reads the values of "llama.<key>" and remembers the first that is missing or makes no sense.
class ConfigReader {
 public:
  explicit ConfigReader(const GgufFile& file) : file_(file) {}

  int Size(absl::string_view key) { return Checked(key, file_.GetUint(Full(key))); }
  int SizeOr(absl::string_view key, int missing) {
    return Checked(key, file_.GetUintOr(Full(key), missing));
  }
  double Positive(absl::string_view key, absl::StatusOr<double> value) {
    if (!value.ok()) return Fail(value.status());
    if (!(*value > 0) || !std::isfinite(*value)) {
      return Fail(absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": ", Full(key), " is ", *value, "; it must be a positive number")));
    }
    return *value;
  }
  double Float(absl::string_view key) { return Positive(key, file_.GetFloat(Full(key))); }
  double FloatOr(absl::string_view key, double missing) {
    return Positive(key, file_.GetFloatOr(Full(key), missing));
  }

  // Returns 1, which divides everything, so that reading can go on.
  int Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
    return 1;
  }
  const absl::Status& status() const { return status_; }

 private:
  static std::string Full(absl::string_view key) { return absl::StrCat("llama.", key); }

  int Checked(absl::string_view key, const absl::StatusOr<uint64_t>& value) {
    if (!value.ok()) return Fail(value.status());
    if (*value < 1 || *value > kMaxSize) {
      return Fail(absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": ", Full(key), " is ", *value, "; it must be from 1 to ", kMaxSize)));
    }
    return static_cast<int>(*value);
  }

  const GgufFile& file_;
  absl::Status status_;
};

absl::Status ReadRope(const GgufFile& file, ConfigReader& reader, LlamaConfig& config) {
  config.rope_base = reader.FloatOr("rope.freq_base", 10000);
  const absl::StatusOr<absl::string_view> scaling =
      file.GetStringOr("llama.rope.scaling.type", "none");
  if (!scaling.ok()) return scaling.status();
  if (*scaling == "linear") {
    config.rope_scale = reader.Float("rope.scaling.factor");
  } else if (*scaling != "none") {
    return absl::UnimplementedError(absl::StrCat(file.path(), ": llama.rope.scaling.type is ",
                                                 QuoteName(*scaling),
                                                 "; Weir reads 'none' and 'linear'"));
  }

  const GgufTensor* divisors = file.Find("rope_freqs.weight");
  if (divisors == nullptr) return absl::OkStatus();
  if (divisors->dims != std::vector<int64_t>{config.head_dim / 2} ||
      divisors->type != WeightType::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": tensor rope_freqs.weight must be F32 [", config.head_dim / 2, "], it is ",
        WeightTypeName(divisors->type), " [", absl::StrJoin(divisors->dims, ", "), "]"));
  }
  config.rope_divisors.resize(config.head_dim / 2);
  DequantizeRow(divisors->type, divisors->data, absl::MakeSpan(config.rope_divisors));
  for (float divisor : config.rope_divisors) {
    reader.Positive("rope_freqs.weight", double{divisor});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufFile& file) {
  const absl::StatusOr<absl::string_view> architecture = file.GetString("general.architecture");
  if (!architecture.ok()) return architecture.status();
  if (*architecture != "llama") {
    return absl::UnimplementedError(absl::StrCat(file.path(), ": general.architecture is ",
                                                 QuoteName(*architecture), "; Weir runs 'llama'"));
  }

  ConfigReader reader(file);
  LlamaConfig config;
  config.layers = reader.Size("block_count");
  config.hidden = reader.Size("embedding_length");
  config.query_heads = reader.Size("attention.head_count");
  config.kv_heads = reader.SizeOr("attention.head_count_kv", config.query_heads);
  config.head_dim =
      reader.SizeOr("attention.key_length", std::max(1, config.hidden / config.query_heads));
  config.feed_forward = reader.Size("feed_forward_length");
  config.positions = reader.Size("context_length");
  config.norm_epsilon = static_cast<float>(reader.Float("attention.layer_norm_rms_epsilon"));
  const int value_dim = reader.SizeOr("attention.value_length", config.head_dim);
  const int rope_dims = reader.SizeOr("rope.dimension_count", config.head_dim);
  if (!reader.status().ok()) return reader.status();

  if (config.query_heads % config.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": llama.attention.head_count is ", config.query_heads,
        "; it must be a multiple of llama.attention.head_count_kv, ", config.kv_heads));
  }
  if (config.head_dim % 2 != 0 || value_dim != config.head_dim || rope_dims != config.head_dim) {
    return absl::UnimplementedError(absl::StrCat(
        file.path(), ": keys, values and rotations of a head are ", config.head_dim, ", ",
        value_dim, " and ", rope_dims, " wide; Weir needs one even width for all three"));
  }
  const GgufTensor* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr || embedding->dims.size() != 2 || embedding->dims[1] > kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": there is no tensor token_embd.weight with two dimensions"));
  }
  config.vocabulary = static_cast<int>(embedding->dims[1]);

  if (absl::Status status = ReadRope(file, reader, config); !status.ok()) return status;
  if (!reader.status().ok()) return reader.status();
  return config;
}

std::vector<int> TensorParallelSizes(const LlamaConfig& config) {
  std::vector<int> sizes;
  for (int size = 1; size <= config.kv_heads; ++size) {
    if (config.kv_heads % size == 0 && config.query_heads % size == 0 &&
        config.feed_forward % size == 0) {
      sizes.push_back(size);
    }
  }
  return sizes;
}

absl::Status ValidateTensorParallel(const LlamaConfig& config, int size) {
  const std::vector<int> sizes = TensorParallelSizes(config);
  if (std::find(sizes.begin(), sizes.end(), size) != sizes.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tensor-parallel size ", size, " does not divide the model's ", config.kv_heads,
                   " KV heads, ", config.query_heads, " query heads and feed-forward width ",
                   config.feed_forward, "; possible: ", absl::StrJoin(sizes, ", ")));
}

}  // namespace weir
