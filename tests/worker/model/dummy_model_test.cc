#include "worker/model/dummy_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/dequantize.h"
#include "tests/testing/small_config.h"
#include "worker/model/chat_template.h"
#include "worker/model/llama.h"
#include "worker/model/llama_config.h"
#include "worker/model/open_model.h"
#include "worker/model/tokenizer.h"
#include "worker/model/weight_rows.h"

namespace weir {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

absl::StatusOr<std::unique_ptr<GgufFile>> Make(const Json& config, int layers = 0,
                                               const std::string& name = "config.json") {
  const std::string path = testing::TempDir() + "/" + name;
  WriteConfig(path, config);
  return MakeDummyModel(path, layers);
}

std::unique_ptr<GgufFile> MakeOrDie(const Json& config = SmallConfig(), int layers = 0,
                                    const std::string& name = "config.json") {
  return Make(config, layers, name).value();
}

std::vector<float> Values(const WeightRow& row, int64_t weights) {
  std::vector<float> values(weights);
  DequantizeRow(row.type, row.data, absl::MakeSpan(values));
  return values;
}

std::vector<float> Values(const GgufTensor& tensor) {
  int64_t weights = 1;
  for (const int64_t dim : tensor.dims) weights *= dim;
  return Values(WeightRow{tensor.data, tensor.type}, weights);
}

TEST(DummyModelTest, HasTheSizesOfTheConfig) {
  const std::unique_ptr<GgufFile> file = MakeOrDie();
  const absl::StatusOr<LlamaConfig> config = ReadLlamaConfig(*file);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers, 3);
  EXPECT_EQ(config->hidden, 64);
  EXPECT_EQ(config->query_heads, 4);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->feed_forward, 96);
  EXPECT_EQ(config->vocabulary, 300);
  EXPECT_EQ(config->positions, 4096);
  EXPECT_EQ(config->norm_epsilon, 1e-5f);
  EXPECT_EQ(config->rope_base, 10000);
  EXPECT_EQ(file->tensors().size(), 3u * 9 + 3);
  const std::unique_ptr<Backend> backend = *CreateCpuBackend({.threads = 1});
  for (int ranks : {1, 2}) {
    for (int rank = 0; rank < ranks; ++rank) {
      const auto model = LlamaModel::Load(*file, rank, ranks, backend.get());
      EXPECT_TRUE(model.ok()) << model.status();
    }
  }
}

TEST(DummyModelTest, TiedEmbeddingsHaveNoOutput) {
  Json json = SmallConfig();
  json["tie_word_embeddings"] = true;
  const std::unique_ptr<GgufFile> file = MakeOrDie(json);
  EXPECT_EQ(file->Find("output.weight"), nullptr);
  const std::unique_ptr<Backend> backend = *CreateCpuBackend({.threads = 1});
  EXPECT_TRUE(LlamaModel::Load(*file, 0, 1, backend.get()).ok());
}

TEST(DummyModelTest, RotatesAsTheConfigSays) {
  Json json = SmallConfig();
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8},
                          {"low_freq_factor", 1},
                          {"high_freq_factor", 4},
                          {"original_max_position_embeddings", 512}};
  absl::StatusOr<LlamaConfig> config = ReadLlamaConfig(*MakeOrDie(json));
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->rope_divisors.size(), 16u);
  EXPECT_EQ(config->rope_divisors.front(), 1);
  EXPECT_EQ(config->rope_divisors.back(), 8);
  EXPECT_TRUE(std::is_sorted(config->rope_divisors.begin(), config->rope_divisors.end()));

  json["rope_scaling"] = {{"type", "linear"}, {"factor", 4}};
  config = ReadLlamaConfig(*MakeOrDie(json));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_scale, 4);
}

TEST(DummyModelTest, WeightsAreAboutNormal) {
  const std::unique_ptr<GgufFile> file = MakeOrDie();
  absl::flat_hash_set<const std::byte*> places;
  for (const GgufTensor& tensor : file->tensors()) {
    const std::vector<float> values = Values(tensor);
    if (tensor.dims.size() == 1) {
      EXPECT_EQ(tensor.type, WeightType::kF32);
      EXPECT_THAT(values, Each(1.0f)) << tensor.name;
      continue;
    }
    EXPECT_EQ(tensor.type, WeightType::kBF16);
    EXPECT_TRUE(places.insert(tensor.data).second) << tensor.name;
    double sum = 0, squares = 0;
    int beyond_one = 0, beyond_two = 0;
    for (const float value : values) {
      sum += value;
      squares += double{value} * value;
      beyond_one += std::abs(value) > 0.02;
      beyond_two += std::abs(value) > 0.04;
    }
    const auto count = static_cast<double>(values.size());
    EXPECT_NEAR(sum / count, 0, 0.002) << tensor.name;
    EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.001) << tensor.name;
    EXPECT_NEAR(beyond_one / count, 0.317, 0.03) << tensor.name;
    EXPECT_NEAR(beyond_two / count, 0.046, 0.015) << tensor.name;
  }
}

TEST(DummyModelTest, IsTheSameForAllRanks) {
  // Made twice, from files of other names, as ranks on two machines do.
  const std::unique_ptr<GgufFile> file = MakeOrDie();
  const std::unique_ptr<GgufFile> again = MakeOrDie(SmallConfig(), 0, "same.json");
  EXPECT_EQ(file->Fingerprint(), again->Fingerprint());
  for (const GgufTensor& tensor : file->tensors()) {
    const GgufTensor* other = again->Find(tensor.name);
    ASSERT_NE(other, nullptr);
    ASSERT_EQ(other->size, tensor.size);
    EXPECT_EQ(std::memcmp(other->data, tensor.data, tensor.size), 0) << tensor.name;
  }

  // Each of two ranks' rows, and columns, are those of the whole.
  const GgufTensor& query = *file->Find("blk.1.attn_q.weight");
  std::vector<WeightRow> whole, parts;
  AppendRotatedHeads(query, 32, 0, 4, whole);
  AppendRotatedHeads(*again->Find(query.name), 32, 0, 2, parts);
  AppendRotatedHeads(*again->Find(query.name), 32, 2, 2, parts);
  ASSERT_EQ(parts.size(), whole.size());
  for (size_t row = 0; row < whole.size(); ++row) {
    EXPECT_EQ(Values(parts[row], 64), Values(whole[row], 64));
  }
  const GgufTensor& down = *file->Find("blk.1.ffn_down.weight");
  const ColumnSlice left(*again->Find(down.name), 0, 48);
  const ColumnSlice right(*again->Find(down.name), 48, 48);
  whole.clear();
  AppendRows(down, 0, 64, whole);
  for (size_t row = 0; row < whole.size(); ++row) {
    std::vector<float> joined = Values(left.rows()[row], 48);
    const std::vector<float> rest = Values(right.rows()[row], 48);
    joined.insert(joined.end(), rest.begin(), rest.end());
    EXPECT_EQ(joined, Values(whole[row], 96));
  }
}

TEST(DummyModelTest, OtherSizesAreAnotherModel) {
  const uint64_t fingerprint = MakeOrDie()->Fingerprint();
  for (const auto& [key, value] : {std::pair<const char*, Json>{"num_hidden_layers", 4},
                                   {"intermediate_size", 128},
                                   {"rope_theta", 10001},
                                   {"rms_norm_eps", 1e-6},
                                   {"max_position_embeddings", 4097}}) {
    Json json = SmallConfig();
    json[key] = value;
    EXPECT_NE(MakeOrDie(json)->Fingerprint(), fingerprint) << key;
  }
}

TEST(DummyModelTest, CanBeCutToItsFirstLayers) {
  const std::unique_ptr<GgufFile> whole = MakeOrDie();
  const std::unique_ptr<GgufFile> cut = MakeOrDie(SmallConfig(), 2);
  EXPECT_EQ(ReadLlamaConfig(*cut)->layers, 2);
  EXPECT_EQ(cut->Find("blk.2.attn_q.weight"), nullptr);
  EXPECT_EQ(Values(*cut->Find("blk.1.attn_q.weight")), Values(*whole->Find("blk.1.attn_q.weight")));
  for (int layers : {-1, 4}) {
    const absl::Status status = Make(SmallConfig(), layers).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("has 3 layers"));
  }
}

TEST(DummyModelTest, RefusesSizesThatItCannotMake) {
  Json json = SmallConfig();
  json["vocab_size"] = 258;
  EXPECT_THAT(std::string(Make(json).status().message()), HasSubstr("at least 259"));
  json["vocab_size"] = 259;
  EXPECT_TRUE(Make(json).ok());
  json["hidden_size"] = 1 << 20;
  json["intermediate_size"] = 1 << 20;
  const absl::Status status = Make(json).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("tensor blk.0.ffn_gate.weight would have 1099511627776 weights"));
  json["num_attention_heads"] = 1 << 20;
  json["num_key_value_heads"] = 1 << 20;
  json["head_dim"] = 1 << 20;
  EXPECT_THAT(std::string(Make(json).status().message()),
              HasSubstr("tensor blk.0.attn_q.weight would have 1152921504606846976 weights"));
}

TEST(DummyModelTest, HasATokenizer) {
  const std::unique_ptr<GgufFile> file = MakeOrDie();
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromGguf(*file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 300);
  const std::string text = "Größe: 7\u20ac,\tthe hen!\n";
  const absl::StatusOr<std::vector<int32_t>> tokens = (*tokenizer)->Encode(text);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), text.size());
  EXPECT_EQ(*(*tokenizer)->Decode(*tokens), text);
  EXPECT_EQ(*(*tokenizer)->Decode({259, 299}), " 259 299");
  EXPECT_TRUE((*tokenizer)->IsEndToken(2));
  EXPECT_FALSE((*tokenizer)->IsEndToken(299));
  const absl::StatusOr<ChatTemplate> chat = ChatTemplate::FromGguf(*file, **tokenizer);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto rendered = EncodeSegments(**tokenizer, chat->Render({{"user", "hi"}}, true, true));
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_EQ((*rendered)[0], 1);
}

TEST(OpenModelTest, OpensWhatIsAskedFor) {
  const std::string path = testing::TempDir() + "/open.json";
  WriteConfig(path);
  EXPECT_TRUE(OpenModel({.path = path, .load_format = "dummy"}).ok());
  EXPECT_EQ(
      ReadLlamaConfig(**OpenModel({.path = path, .load_format = "dummy", .layers = 1}))->layers, 1);
  EXPECT_THAT(std::string(OpenModel({.path = path}).status().message()),
              HasSubstr("is not a GGUF file"));
  EXPECT_EQ(OpenModel({.path = path, .load_format = "onnx"}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenModel({.path = path, .layers = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weir
