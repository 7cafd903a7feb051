#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

// Kilobytes of this process that are in memory.
int64_t ResidentKilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stoll(line.substr(6));
  }
  return 0;
}

TEST(LongSessionTest, MemoryDoesNotGrowOverAMillionTokens) {
  const NaiveLlamaConfig config = {.layers = 1,
                                   .hidden = 16,
                                   .heads = 1,
                                   .kv_heads = 1,
                                   .head_dim = 8,
                                   .ffn = 16,
                                   .vocabulary = kLeastVocabulary};
  RankOptions options;
  options.model_path = WriteModel(MakeRandomModel(config, 1), "long_session_test");
  options.engine.max_sessions = 1;
  options.engine.cascade = {.sinks = 4, .slots = 64, .sub_caches = 4, .stride = 64};
  TestGroup group(options);
  Engine& engine = group.leader();
  ASSERT_TRUE(engine.OpenSession("s", options.engine.cascade).ok());

  constexpr int kPiece = 10000;
  const std::vector<int32_t> piece = RandomTokens(kPiece, config.vocabulary, 2);
  int64_t resident = 0;
  int64_t bytes = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Append(engine, "s", piece).status.ok());
    if (i == 4) {
      resident = ResidentKilobytes();
      bytes = engine.Describe("s")->cache_bytes;
    }
  }
  EXPECT_GT(resident, 0);
  EXPECT_LE(ResidentKilobytes(), resident + 2048);
  const SessionStatus status = *engine.Describe("s");
  EXPECT_EQ(status.tokens_seen, 1000000);
  EXPECT_EQ(status.tokens_cached, 68);
  EXPECT_EQ(status.cache_bytes, bytes);

  // It still remembers: sinks, and in every sub-cache older tokens than in the one before.
  const HeadMemory memory = (*engine.Inspect("s", 0))[0];
  ASSERT_EQ(memory.tokens.size(), 68u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(memory.tokens[i], i);
  for (int i = 5; i < 68; ++i) EXPECT_GT(memory.tokens[i], memory.tokens[i - 1]);
  EXPECT_EQ(memory.tokens[67], 999999);
  EXPECT_LT(memory.tokens[4], 1000000 - 64);
}

}  // namespace
}  // namespace weir
