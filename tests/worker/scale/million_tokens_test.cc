// A session of a million tokens costs what a session of fifty thousand costs.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"
#include "tests/testing/resident_memory.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/step_executor.h"
#include "worker/model/gguf.h"
#include "worker/model/llama.h"

namespace weir {
namespace {

constexpr int64_t kTokens = 1'000'000;
constexpr CascadeConfig kCascade = {.sinks = 3, .slots = 64, .sub_caches = 4, .stride = 64};
constexpr int kPositions = 3 + 64 + 64;

// A model that was trained for just the positions that the session may use.
std::string ModelPath() {
  const NaiveLlamaConfig config = {.layers = 1,
                                   .hidden = 16,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 8,
                                   .ffn = 16,
                                   .vocabulary = kLeastVocabulary};
  return WriteModel(MakeRandomModel(config, 1), "million_tokens", {.positions = kPositions});
}

TEST(MillionTokensTest, ResidentMemoryIsFlat) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps freed memory for a while";
#endif
  RankOptions options;
  options.model_path = ModelPath();
  options.engine.max_sessions = 1;
  options.engine.cascade = kCascade;
  TestGroup group(options);
  Engine& engine = group.leader();
  ASSERT_TRUE(engine.OpenSession("s", kCascade).ok());
  const int64_t cache_bytes = engine.Describe("s")->cache_bytes;

  // Twenty texts of 5 % each, with an answer after each of them.
  constexpr int kGenerated = 100;
  const std::vector<int32_t> text =
      RandomTokens(kTokens / 20 - kGenerated, kLeastVocabulary, /*seed=*/1);
  int64_t resident_bytes_at_5_percent = 0;
  for (int part = 1; part <= 20; ++part) {
    const RunResult read = Append(engine, "s", text);
    ASSERT_TRUE(read.status.ok()) << read.status;
    const RunResult answer = Generate(engine, "s", ExactlyTokens(kGenerated));
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    const SessionStatus status = *engine.Describe("s");
    // The answer's last token is read when the session goes on.
    EXPECT_EQ(status.tokens_seen, part * (kTokens / 20));
    EXPECT_EQ(status.tokens_cached, kCascade.total_slots());
    EXPECT_EQ(status.cache_bytes, cache_bytes);
    if (part == 1) resident_bytes_at_5_percent = ResidentBytes();
  }
  // Half a byte a token.
  EXPECT_LE(ResidentBytes(), resident_bytes_at_5_percent + kTokens / 2);
}

TEST(MillionTokensTest, PositionsStayWithinSinksSlotsAndStride) {
  const std::unique_ptr<Backend> backend = *CreateCpuBackend({.threads = 1});
  const std::unique_ptr<LlamaModel> model =
      *LlamaModel::Load(**GgufFile::Open(ModelPath()), 0, 1, backend.get());
  const std::unique_ptr<StepExecutor> executor =
      *StepExecutor::Create(model.get(), /*sessions=*/1, kCascade);
  const std::unique_ptr<Communicator> communicator = MakeSingleCommunicator();
  ASSERT_TRUE(executor->JoinGroup(communicator.get()).ok());
  StepPlan plan;
  plan.resets.push_back({.cache_slot = 0, .cascade = kCascade});
  ASSERT_TRUE(executor->Execute(plan).ok());

  // Chunks and steps of one token in turns, so that every alignment of the two occurs.
  plan.resets.clear();
  int64_t step = 0;
  while (executor->cache(0).tokens() < kTokens) {
    const bool chunk = step % 3 != 2;
    std::vector<int32_t> tokens = RandomTokens(chunk ? 64 : 1, kLeastVocabulary, step);
    plan.decodes.clear();
    plan.chunk.reset();
    plan.chunk_layers = chunk ? 1 : 0;
    if (chunk) {
      plan.chunk = PlannedChunk{.cache_slot = 0, .tokens = std::move(tokens)};
    } else {
      plan.decodes = {{.cache_slot = 0, .token = tokens[0]}};
    }
    ASSERT_TRUE(executor->Execute(plan).ok());
    ++step;
  }
  EXPECT_EQ(executor->cache(0).max_position(), kPositions - 1);
  EXPECT_EQ(executor->cache(0).filled_slots(), kCascade.total_slots());
}

}  // namespace
}  // namespace weir
