#include "tests/worker/engine/small_engine.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

constexpr int kVocabulary = kLeastVocabulary + 13;

}  // namespace

std::string SmallModelPath(WeightType type) {
  const NaiveLlamaConfig config = {.layers = 2,
                                   .hidden = 64,
                                   .heads = 12,
                                   .kv_heads = 6,
                                   .head_dim = 8,
                                   .ffn = 96,
                                   .vocabulary = kVocabulary};
  return WriteModel(MakeRandomModel(config, 1, type, type),
                    absl::StrCat("small_engine_", WeightTypeName(type)),
                    {.matrices = type, .embedding = type});
}

RankOptions SmallOptions(int tensor_parallel) {
  static const std::string* const path = new std::string(SmallModelPath(WeightType::kF32));
  RankOptions options;
  options.model_path = *path;
  options.tensor_parallel = tensor_parallel;
  options.engine.max_sessions = 4;
  options.engine.max_runs = 3;
  options.engine.cascade = kSmallCascade;
  options.engine.idle_step = absl::Milliseconds(50);
  return options;
}

std::vector<int32_t> SmallText(int count, uint64_t seed) {
  return RandomTokens(count, kVocabulary, seed);
}

void OpenSmall(Engine& engine, const std::string& id) {
  ASSERT_TRUE(engine.OpenSession(id, kSmallCascade).ok());
}

}  // namespace weir
