#include "worker/model/llama_weights.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/testing/gguf_writer.h"
#include "worker/model/llama_config.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A model of one layer: hidden 8, 4 query heads and 2 KV heads of 2, feed-forward 6, vocabulary 5.
struct FileParts {
  std::string architecture = "llama";
  uint32_t layers = 1;
  uint32_t hidden = 8;
  uint32_t query_heads = 4;
  uint32_t kv_heads = 2;
  uint32_t positions = 100;
  float epsilon = 1e-5f;
  std::function<void(GgufWriter&)> more_keys = [](GgufWriter&) {};
  std::string without;  // this tensor is left out
  std::string wrong;    // this tensor has one column too many
  std::vector<std::string> more_tensors;
};

std::unique_ptr<GgufFile> Write(const FileParts& parts) {
  GgufWriter writer;
  writer.AddString("general.architecture", parts.architecture);
  writer.AddUint32("llama.block_count", parts.layers);
  writer.AddUint32("llama.embedding_length", parts.hidden);
  writer.AddUint32("llama.attention.head_count", parts.query_heads);
  writer.AddUint32("llama.attention.head_count_kv", parts.kv_heads);
  writer.AddUint32("llama.feed_forward_length", 6);
  writer.AddUint32("llama.context_length", parts.positions);
  writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", parts.epsilon);
  parts.more_keys(writer);
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors = {
      {"token_embd.weight", {8, 5}},        {"output_norm.weight", {8}},
      {"blk.0.attn_norm.weight", {8}},      {"blk.0.attn_q.weight", {8, 8}},
      {"blk.0.attn_k.weight", {8, 4}},      {"blk.0.attn_v.weight", {8, 4}},
      {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_norm.weight", {8}},
      {"blk.0.ffn_gate.weight", {8, 6}},    {"blk.0.ffn_up.weight", {8, 6}},
      {"blk.0.ffn_down.weight", {6, 8}}};
  for (const std::string& name : parts.more_tensors) tensors.push_back({name, {4}});
  for (auto& [name, dims] : tensors) {
    if (name == parts.without) continue;
    if (name == parts.wrong) ++dims[0];
    int64_t count = 1;
    for (int64_t dim : dims) count *= dim;
    writer.AddTensor(name, WeightType::kF32, dims, std::vector<float>(count, 0.5f));
  }
  const std::string path = testing::TempDir() + "/llama_weights_test.gguf";
  writer.WriteFile(path);
  return *GgufFile::Open(path);
}

absl::Status Load(const FileParts& parts, int rank = 0, int ranks = 1) {
  const std::unique_ptr<GgufFile> file = Write(parts);
  const absl::StatusOr<LlamaConfig> config = ReadLlamaConfig(*file);
  if (!config.ok()) return config.status();
  const std::unique_ptr<Backend> backend = *CreateCpuBackend({.threads = 1});
  return LoadLlamaWeights(*file, *config, rank, ranks, *backend).status();
}

TEST(LlamaConfigTest, ReadsSizes) {
  const LlamaConfig config = *ReadLlamaConfig(*Write({}));
  EXPECT_EQ(config.layers, 1);
  EXPECT_EQ(config.hidden, 8);
  EXPECT_EQ(config.query_heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 2);
  EXPECT_EQ(config.feed_forward, 6);
  EXPECT_EQ(config.vocabulary, 5);
  EXPECT_EQ(config.positions, 100);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.rope_base, 10000);
  EXPECT_EQ(config.rope_scale, 1);
  EXPECT_TRUE(config.rope_divisors.empty());

  const LlamaConfig scaled = *ReadLlamaConfig(*Write({.more_keys = [](GgufWriter& writer) {
    writer.AddString("llama.rope.scaling.type", "linear");
    writer.AddFloat32("llama.rope.scaling.factor", 4);
    writer.AddFloat32("llama.rope.freq_base", 500000);
    writer.AddTensor("rope_freqs.weight", WeightType::kF32, {1}, {8});
  }}));
  EXPECT_EQ(scaled.rope_scale, 4);
  EXPECT_EQ(scaled.rope_base, 500000);
  EXPECT_THAT(scaled.rope_divisors, ElementsAre(8));
}

TEST(LlamaConfigTest, ImpossibleSizesAreNamed) {
  const auto message = [](const FileParts& parts) {
    const absl::Status status = ReadLlamaConfig(*Write(parts)).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  };
  EXPECT_THAT(message({.architecture = "mamba"}), HasSubstr("general.architecture is 'mamba'"));
  EXPECT_THAT(message({.layers = 0}), HasSubstr("llama.block_count is 0"));
  EXPECT_THAT(message({.hidden = 1u << 30}), HasSubstr("llama.embedding_length is 1073741824"));
  EXPECT_THAT(message({.query_heads = 3}), HasSubstr("llama.attention.head_count is 3"));
  EXPECT_THAT(message({.query_heads = 8}), HasSubstr("head are 1, 1 and 1 wide"));
  EXPECT_THAT(message({.epsilon = 0}), HasSubstr("layer_norm_rms_epsilon is 0"));
  EXPECT_THAT(message({.without = "token_embd.weight"}), HasSubstr("token_embd.weight"));
  EXPECT_THAT(message({.more_keys =
                           [](GgufWriter& writer) {
                             writer.AddString("llama.rope.scaling.type", "yarn");
                           }}),
              HasSubstr("llama.rope.scaling.type is 'yarn'"));
  EXPECT_THAT(
      message({.more_keys =
                   [](GgufWriter& writer) { writer.AddUint32("llama.rope.dimension_count", 1); }}),
      HasSubstr("2, 2 and 1 wide"));
  EXPECT_THAT(message({.more_keys =
                           [](GgufWriter& writer) {
                             writer.AddTensor("rope_freqs.weight", WeightType::kF32, {1}, {0});
                           }}),
              HasSubstr("rope_freqs.weight is 0"));
}

TEST(LlamaConfigTest, TensorParallelSizes) {
  LlamaConfig config;
  config.query_heads = 24;
  config.kv_heads = 12;
  config.feed_forward = 80;
  EXPECT_THAT(TensorParallelSizes(config), ElementsAre(1, 2, 4));
}

TEST(LlamaWeightsTest, LoadsEveryRank) {
  EXPECT_TRUE(Load({}).ok()) << Load({});
  EXPECT_TRUE(Load({}, 0, 2).ok());
  EXPECT_TRUE(Load({}, 1, 2).ok());
  EXPECT_EQ(Load({}, 0, 4).code(), absl::StatusCode::kInvalidArgument);
}

TEST(LlamaWeightsTest, EveryTensorIsNeededInItsShape) {
  const std::vector<std::string> names = {"output_norm.weight",    "blk.0.attn_norm.weight",
                                          "blk.0.attn_q.weight",   "blk.0.attn_k.weight",
                                          "blk.0.attn_v.weight",   "blk.0.attn_output.weight",
                                          "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",
                                          "blk.0.ffn_up.weight",   "blk.0.ffn_down.weight"};
  for (const std::string& name : names) {
    const absl::Status missing = Load({.without = name});
    EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(missing.message()), HasSubstr("tensor " + name + " is missing"));
    const absl::Status wrong = Load({.wrong = name});
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(wrong.message()), HasSubstr("tensor " + name + " is ["));
  }
  EXPECT_THAT(std::string(Load({.layers = 1000000}).message()),
              HasSubstr("tensor blk.1.attn_norm.weight is missing"));
}

TEST(LlamaWeightsTest, ATensorThatWouldBeIgnoredIsRefused) {
  const absl::Status status = Load({.more_tensors = {"blk.0.attn_q.bias"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("blk.0.attn_q.bias"));
}

TEST(LlamaWeightsTest, TheVocabularyIsSplitInEqualShards) {
  // 5 tokens over 2 ranks: 3, and 2 with a row of padding.
  const VocabularyShard first = ShardVocabulary(5, 0, 2);
  EXPECT_THAT((std::vector<int>{first.first, first.tokens, first.rows}), ElementsAre(0, 3, 3));
  const VocabularyShard second = ShardVocabulary(5, 1, 2);
  EXPECT_THAT((std::vector<int>{second.first, second.tokens, second.rows}), ElementsAre(3, 2, 3));
  // 5 over 4: 2, 2, 1 and padding alone.
  const VocabularyShard last = ShardVocabulary(5, 3, 4);
  EXPECT_THAT((std::vector<int>{last.first, last.tokens, last.rows}), ElementsAre(5, 0, 2));
}

}  // namespace
}  // namespace weir
