// Three things that others rely on: random models survive being stored, the golden values can be
// loaded, and the naive Llama agrees with them.

#include "tests/testing/naive_llama_gguf.h"

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/weight_type.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/naive_llama.h"
#include "tests/testing/random_model.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/smollm2_golden.h"

namespace weir {
namespace {

class RandomModelTest : public testing::TestWithParam<WeightType> {};

TEST_P(RandomModelTest, IsStoredWithoutLoss) {
  const NaiveLlamaConfig config = {.layers = 2,
                                   .hidden = 64,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 16,
                                   .ffn = 96,
                                   .vocabulary = 270,
                                   .rope_base = 5000.0,
                                   .rms_epsilon = 1e-6f};
  const NaiveLlamaModel model = MakeRandomModel(config, /*seed=*/1, GetParam(), GetParam());
  const std::string path =
      absl::StrCat(testing::TempDir(), "/random_", WeightTypeName(GetParam()), ".gguf");
  MakeLlamaGguf(model, {.matrices = GetParam(), .embedding = GetParam()}).WriteFile(path);

  const NaiveLlamaModel stored = ReadNaiveLlama(path);
  EXPECT_EQ(stored.config.layers, config.layers);
  EXPECT_EQ(stored.config.hidden, config.hidden);
  EXPECT_EQ(stored.config.heads, config.heads);
  EXPECT_EQ(stored.config.kv_heads, config.kv_heads);
  EXPECT_EQ(stored.config.head_dim, config.head_dim);
  EXPECT_EQ(stored.config.ffn, config.ffn);
  EXPECT_EQ(stored.config.vocabulary, config.vocabulary);
  EXPECT_EQ(stored.config.rope_base, config.rope_base);
  EXPECT_EQ(stored.config.rms_epsilon, config.rms_epsilon);
  EXPECT_EQ(stored.embedding, model.embedding);
  EXPECT_EQ(stored.final_norm, model.final_norm);
  EXPECT_TRUE(stored.classifier.empty());
  ASSERT_EQ(stored.layers.size(), model.layers.size());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    EXPECT_EQ(stored.layers[i].attention_norm, model.layers[i].attention_norm);
    EXPECT_EQ(stored.layers[i].query, model.layers[i].query);
    EXPECT_EQ(stored.layers[i].key, model.layers[i].key);
    EXPECT_EQ(stored.layers[i].value, model.layers[i].value);
    EXPECT_EQ(stored.layers[i].output, model.layers[i].output);
    EXPECT_EQ(stored.layers[i].ffn_norm, model.layers[i].ffn_norm);
    EXPECT_EQ(stored.layers[i].gate, model.layers[i].gate);
    EXPECT_EQ(stored.layers[i].up, model.layers[i].up);
    EXPECT_EQ(stored.layers[i].down, model.layers[i].down);
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, RandomModelTest,
                         testing::Values(WeightType::kF32, WeightType::kF16, WeightType::kBF16,
                                         WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1),
                         [](const auto& info) { return WeightTypeName(info.param); });

TEST(NaiveLlamaGgufTest, AgreesWithTransformersOnSmolLm2) {
  const SmolLm2Golden golden = LoadSmolLm2Golden();
  ASSERT_EQ(golden.logprobs.size() + 1, golden.tokens.size());
  const NaiveLlamaModel model = ReadNaiveLlama(SmolLm2Path());
  NaiveLlamaSession session(model, {.sinks = 4, .slots = 64, .sub_caches = 4, .stride = 10});
  constexpr int kTokens = 16;  // in two chunks
  const std::vector<std::vector<double>> logits =
      session.Append(std::vector<int>(golden.tokens.begin(), golden.tokens.begin() + kTokens));
  for (int t = 0; t < kTokens; ++t) {
    EXPECT_NEAR(NaiveLogSoftmax(logits[t])[golden.tokens[t + 1]], golden.logprobs[t], 1e-4);
  }
}

}  // namespace
}  // namespace weir
