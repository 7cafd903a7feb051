#include "worker/model/dummy_model.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "worker/model/dummy_tokenizer.h"
#include "worker/model/fnv1a.h"
#include "worker/model/gguf_header.h"
#include "worker/model/hugging_face_config.h"
#include "worker/model/random_weights.h"

namespace weir {
namespace {

constexpr int64_t kMaxTensorBytes = int64_t{1} << 34;
// Beyond the largest tensor, so that tensors as large as that differ too.
constexpr int64_t kSlackBytes = int64_t{8} << 20;
constexpr int64_t kAlignment =
    64;  // of tensors, a cache line; a multiple of GgufHeader::kAlignment

struct TensorShape {
  std::string name;
  WeightType type = WeightType::kBF16;
  std::vector<int64_t> dims;

  int64_t weights() const {
    return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<int64_t>());
  }
  int64_t bytes() const { return RowBytes(type, weights()); }
};

int64_t AlignUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// All tensors of the model, named as in GGUF files. F32 are the norms, all ones, and rope_freqs.
std::vector<TensorShape> Tensors(const HuggingFaceConfig& config) {
  const LlamaConfig& llama = config.llama;
  const int64_t hidden = llama.hidden;
  const int64_t query_width = int64_t{llama.query_heads} * llama.head_dim;
  const int64_t key_width = int64_t{llama.kv_heads} * llama.head_dim;
  std::vector<TensorShape> tensors;
  const auto add_matrix = [&](std::string name, int64_t inputs, int64_t outputs) {
    tensors.push_back({std::move(name), WeightType::kBF16, {inputs, outputs}});
  };
  const auto add_vector = [&](std::string name, int64_t values) {
    tensors.push_back({std::move(name), WeightType::kF32, {values}});
  };
  add_matrix("token_embd.weight", hidden, llama.vocabulary);
  for (int i = 0; i < llama.layers; ++i) {
    const std::string block = absl::StrCat("blk.", i, ".");
    add_vector(block + "attn_norm.weight", hidden);
    add_matrix(block + "attn_q.weight", hidden, query_width);
    add_matrix(block + "attn_k.weight", hidden, key_width);
    add_matrix(block + "attn_v.weight", hidden, key_width);
    add_matrix(block + "attn_output.weight", query_width, hidden);
    add_vector(block + "ffn_norm.weight", hidden);
    add_matrix(block + "ffn_gate.weight", hidden, llama.feed_forward);
    add_matrix(block + "ffn_up.weight", hidden, llama.feed_forward);
    add_matrix(block + "ffn_down.weight", llama.feed_forward, hidden);
  }
  add_vector("output_norm.weight", hidden);
  if (!config.tied_embeddings) add_matrix("output.weight", hidden, llama.vocabulary);
  if (!llama.rope_divisors.empty()) {
    add_vector("rope_freqs.weight", static_cast<int64_t>(llama.rope_divisors.size()));
  }
  return tensors;
}

// The tensors' data: ones, divisors of rotations, random weights.
struct Layout {
  int64_t divisors = 0;    // bytes before the divisors
  int64_t pool = 0;        // bytes before the random weights
  int64_t pool_bytes = 0;  // of the random weights
  int64_t bytes = 0;       // of all
};

Layout LayOut(const LlamaConfig& llama, absl::Span<const TensorShape> tensors) {
  int64_t largest = 0;
  for (const TensorShape& tensor : tensors) largest = std::max(largest, tensor.bytes());
  Layout layout;
  layout.divisors = AlignUp(llama.hidden * int64_t{sizeof(float)});
  layout.pool =
      layout.divisors + AlignUp(static_cast<int64_t>(llama.rope_divisors.size() * sizeof(float)));
  layout.pool_bytes = AlignUp(largest) + kSlackBytes;
  layout.bytes = layout.pool + layout.pool_bytes;
  return layout;
}

int64_t OffsetOf(const TensorShape& tensor, const Layout& layout) {
  if (tensor.name == "rope_freqs.weight") return layout.divisors;
  if (tensor.type == WeightType::kF32) return 0;
  Fnv1a hash;
  hash.Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(tensor.name.data()),
                               tensor.name.size()));
  const int64_t places = (layout.pool_bytes - AlignUp(tensor.bytes())) / kAlignment + 1;
  return layout.pool + static_cast<int64_t>(hash.value() % places) * kAlignment;
}

// Fills data for this layout.
void Fill(const LlamaConfig& llama, const Layout& layout, std::byte* data) {
  std::memset(data, 0, layout.pool);  // what no tensor uses
  const std::vector<float> ones(llama.hidden, 1.0f);
  std::memcpy(data, ones.data(), ones.size() * sizeof(float));
  std::memcpy(data + layout.divisors, llama.rope_divisors.data(),
              llama.rope_divisors.size() * sizeof(float));
  FillWithRandomWeights(absl::MakeSpan(reinterpret_cast<uint16_t*>(data + layout.pool),
                                       layout.pool_bytes / sizeof(uint16_t)));
}

std::string Header(const LlamaConfig& llama, absl::Span<const TensorShape> tensors,
                   const Layout& layout) {
  int64_t parameters = 0;
  for (const TensorShape& tensor : tensors) parameters += tensor.weights();
  GgufHeader header;
  header.AddString("general.architecture", "llama");
  header.AddString("general.name", absl::StrFormat("dummy Llama, %.2f B", parameters / 1e9));
  header.AddUint32("llama.block_count", llama.layers);
  header.AddUint32("llama.context_length", llama.positions);
  header.AddUint32("llama.embedding_length", llama.hidden);
  header.AddUint32("llama.feed_forward_length", llama.feed_forward);
  header.AddUint32("llama.attention.head_count", llama.query_heads);
  header.AddUint32("llama.attention.head_count_kv", llama.kv_heads);
  header.AddUint32("llama.attention.key_length", llama.head_dim);
  header.AddUint32("llama.attention.value_length", llama.head_dim);
  header.AddFloat32("llama.attention.layer_norm_rms_epsilon", llama.norm_epsilon);
  header.AddFloat32("llama.rope.freq_base", static_cast<float>(llama.rope_base));
  if (llama.rope_scale != 1) {
    header.AddString("llama.rope.scaling.type", "linear");
    header.AddFloat32("llama.rope.scaling.factor", static_cast<float>(llama.rope_scale));
  }
  AddDummyTokenizer(header, llama.vocabulary);
  for (const TensorShape& tensor : tensors) {
    header.AddTensor(tensor.name, tensor.type, tensor.dims,
                     static_cast<uint64_t>(OffsetOf(tensor, layout)));
  }
  return header.Serialize();
}

absl::Status Check(const std::string& path, const LlamaConfig& llama,
                   absl::Span<const TensorShape> tensors) {
  if (llama.vocabulary < kLeastDummyVocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": vocab_size is ", llama.vocabulary,
                                                   "; a dummy model's tokenizer needs at least ",
                                                   kLeastDummyVocabulary));
  }
  for (const TensorShape& tensor : tensors) {
    // Products fit, see ReadHuggingFaceConfig; twice as many bytes may not.
    if (tensor.weights() > kMaxTensorBytes / 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", tensor.name, " would have ", tensor.weights(),
                       " weights; a dummy model's have at most ", kMaxTensorBytes / 2));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgufFile>> MakeDummyModel(const std::string& config_path,
                                                         int layers) {
  absl::StatusOr<HuggingFaceConfig> config = ReadHuggingFaceConfig(config_path);
  if (!config.ok()) return config.status();
  LlamaConfig& llama = config->llama;
  if (layers < 0 || layers > llama.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat(config_path, " has ", llama.layers, " layers; it cannot be cut to ", layers));
  }
  if (layers > 0) llama.layers = layers;

  const std::vector<TensorShape> tensors = Tensors(*config);
  if (absl::Status status = Check(config_path, llama, tensors); !status.ok()) return status;
  const Layout layout = LayOut(llama, tensors);
  GgufMemory memory;
  memory.header = Header(llama, tensors, layout);
  memory.data_size = static_cast<uint64_t>(layout.bytes);
  memory.data.reset(new (std::nothrow) std::byte[memory.data_size]);
  if (memory.data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(config_path, ": there is no memory for ",
                                                     layout.bytes, " bytes of random weights"));
  }
  Fill(llama, layout, memory.data.get());
  return GgufFile::FromMemory(config_path, std::move(memory));
}

}  // namespace weir
