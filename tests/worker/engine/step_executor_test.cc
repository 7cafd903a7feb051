#include "worker/engine/step_executor.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/naive_likeliest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/comm/in_process_group.h"
#include "worker/comm/single_communicator.h"

namespace weir {
namespace {

constexpr int kLayers = 5;
constexpr int kSessions = 3;
constexpr CascadeConfig kCascade = {.sinks = 1, .slots = 12, .sub_caches = 2, .stride = 4};

const std::string& ModelPath() {
  static const std::string* const path =
      new std::string(WriteModel(MakeRandomModel({.layers = kLayers,
                                                  .hidden = 24,
                                                  .heads = 6,
                                                  .kv_heads = 3,
                                                  .head_dim = 8,
                                                  .ffn = 48,
                                                  .vocabulary = kLeastVocabulary},
                                                 1),
                                 "step_executor_test"));
  return *path;
}

// One rank's executor and all it needs.
struct TestRank {
  TestRank(int rank, int ranks, std::unique_ptr<Communicator> joined)
      : communicator(std::move(joined)) {
    backend = *CreateCpuBackend({.threads = 1});
    model = *LlamaModel::Load(**GgufFile::Open(ModelPath()), rank, ranks, backend.get());
    executor = *StepExecutor::Create(model.get(), kSessions, kCascade);
    EXPECT_TRUE(executor->JoinGroup(communicator.get()).ok());
  }

  StepResult Execute(const StepPlan& plan) {
    const absl::Status valid = executor->Validate(plan);
    EXPECT_TRUE(valid.ok()) << valid;
    absl::StatusOr<StepResult> result = executor->Execute(plan);
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  std::unique_ptr<Communicator> communicator;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<LlamaModel> model;
  std::unique_ptr<StepExecutor> executor;
};

// Asks for all logits of the small vocabulary.
const LikeliestRequest kAll = {.likeliest = kLeastVocabulary};

// All logits, by token.
std::vector<float> Logits(const std::optional<LogitsSummary>& summary) {
  EXPECT_TRUE(summary.has_value());
  EXPECT_EQ(summary->likeliest.size(), static_cast<size_t>(kLeastVocabulary));
  std::vector<float> logits(kLeastVocabulary);
  for (const TokenLogit& token : summary->likeliest) logits[token.token] = token.logit;
  return logits;
}

std::optional<LikeliestRequest> If(bool wanted) {
  return wanted ? std::make_optional(kAll) : std::nullopt;
}

std::vector<float> ValuesOf(const std::optional<LogitsSummary>& summary) {
  return summary.has_value() ? Logits(summary) : std::vector<float>();
}

StepPlan Begin(int slot) {
  StepPlan plan;
  plan.resets.push_back({.cache_slot = slot, .cascade = kCascade});
  return plan;
}

StepPlan Chunk(PlannedChunk chunk, int layers = kLayers) {
  StepPlan plan;
  plan.chunk = std::move(chunk);
  plan.chunk_layers = layers;
  return plan;
}

StepPlan Layers(int layers) {
  StepPlan plan;
  plan.chunk_layers = layers;
  return plan;
}

StepPlan Decode(std::vector<PlannedDecode> decodes) {
  StepPlan plan;
  plan.decodes = std::move(decodes);
  return plan;
}

class StepExecutorTest : public testing::Test {
 protected:
  StepResult Execute(const StepPlan& plan) { return rank_.Execute(plan); }
  StepExecutor& executor() { return *rank_.executor; }

  TestRank rank_{0, 1, MakeSingleCommunicator()};
};

// The session keeps what its next token follows from, so logits may come with the last row or
// later.
TEST_F(StepExecutorTest, LogitsNowOrLaterAreTheSame) {
  Execute(Begin(0));
  const StepResult now = Execute(Chunk({.cache_slot = 0, .tokens = {5, 6, 7}, .next = kAll}));
  ASSERT_TRUE(now.chunk.has_value());
  const std::vector<float> logits = Logits(now.chunk->next);
  const StepResult later = Execute(Decode({{.cache_slot = 0, .next = kAll}}));
  EXPECT_FALSE(later.chunk.has_value());
  EXPECT_EQ(Logits(later.decodes[0]), logits);

  // And the score of the next token follows from them too.
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit});
  const StepResult scored = Execute(Chunk({.cache_slot = 0, .tokens = {9}, .score = true}));
  ASSERT_EQ(scored.chunk->scores.size(), 1u);
  EXPECT_NEAR(scored.chunk->scores[0], logits[9] - std::log(sum), 1e-5);
}

// Lanes ask for different things, and get what their logits say.
void AskForDifferentThings(TestRank& rank) {
  for (int slot = 0; slot < kSessions; ++slot) {
    rank.Execute(Begin(slot));
    rank.Execute(Chunk({.cache_slot = slot, .tokens = {5, 6, slot}}));
  }
  for (uint64_t index = 0; index < 20; ++index) {
    const LikeliestRequest draws = {.seed = 3,
                                    .index = index,
                                    .inverse_temperature = 0.5f,
                                    .likeliest = 4,
                                    .target = static_cast<int32_t>(13 * index),
                                    .draw = true};
    const LikeliestRequest few = {.likeliest = 100};
    const StepResult asked = rank.Execute(Decode({{.cache_slot = 0, .token = 8, .next = draws},
                                                  {.cache_slot = 1, .next = few},
                                                  {.cache_slot = 2, .next = LikeliestRequest()}}));
    const StepResult all = rank.Execute(Decode({{.cache_slot = 0, .next = kAll},
                                                {.cache_slot = 1, .next = kAll},
                                                {.cache_slot = 2, .next = kAll}}));
    ASSERT_EQ(asked.decodes.size(), 3u);
    for (const std::optional<LogitsSummary>& summary : asked.decodes) {
      EXPECT_EQ(summary.has_value(), rank.communicator->rank() == 0);
    }
    if (rank.communicator->rank() != 0) continue;
    EXPECT_EQ(CompareSummary(*asked.decodes[0], Logits(all.decodes[0]), 0, draws), "");
    EXPECT_EQ(CompareSummary(*asked.decodes[1], Logits(all.decodes[1]), 0, few), "");
    EXPECT_EQ(CompareSummary(*asked.decodes[2], Logits(all.decodes[2]), 0, {}), "");
  }
}

TEST_F(StepExecutorTest, EveryLaneGetsWhatItAsksFor) { AskForDifferentThings(rank_); }

TEST_F(StepExecutorTest, AResetForgetsEverything) {
  const PlannedChunk chunk = {.cache_slot = 0, .tokens = {5, 6, 7}, .next = kAll};
  Execute(Begin(0));
  const StepResult first = Execute(Chunk(chunk));
  Execute(Chunk({.cache_slot = 0, .tokens = {1, 2, 3, 4}}));
  Execute(Begin(0));
  EXPECT_EQ(executor().cache(0).tokens(), 0);
  EXPECT_EQ(Logits(Execute(Chunk(chunk)).chunk->next), Logits(first.chunk->next));
}

// A lane gives the same beside others, with a token of its own or without, and as a chunk of one.
TEST_F(StepExecutorTest, ALaneIsALaneWhoeverElseDecodes) {
  for (int slot = 0; slot < kSessions; ++slot) {
    Execute(Begin(slot));
    Execute(Chunk({.cache_slot = slot, .tokens = {5, 6, 7}}));
  }
  const StepResult together = Execute(Decode({{.cache_slot = 2, .token = 8, .next = kAll},
                                              {.cache_slot = 0, .token = 8},
                                              {.cache_slot = 1, .next = kAll}}));
  ASSERT_EQ(together.decodes.size(), 3u);
  EXPECT_FALSE(together.decodes[1].has_value());
  const std::vector<float> logits = Logits(together.decodes[0]);
  const StepResult alone = Execute(Decode({{.cache_slot = 1, .token = 8, .next = kAll}}));
  EXPECT_EQ(Logits(alone.decodes[0]), logits);
  const StepResult later = Execute(Decode({{.cache_slot = 0, .next = kAll}}));
  EXPECT_EQ(Logits(later.decodes[0]), logits);
  EXPECT_NE(Logits(together.decodes[2]), logits);
  EXPECT_EQ(executor().cache(0).tokens(), 4);

  Execute(Begin(1));
  Execute(Chunk({.cache_slot = 1, .tokens = {5, 6, 7}}));
  const StepResult chunk = Execute(Chunk({.cache_slot = 1, .tokens = {8}, .next = kAll}));
  EXPECT_EQ(Logits(chunk.chunk->next), logits);
}

// What a talk in slot 0 told and left behind.
struct Trace {
  std::vector<std::vector<float>> values;
  std::vector<HeadMemory> memory;
};

void ExpectSame(const Trace& actual, const Trace& expected) {
  ASSERT_EQ(actual.values.size(), expected.values.size());
  for (size_t i = 0; i < expected.values.size(); ++i) {
    ASSERT_EQ(actual.values[i].size(), expected.values[i].size()) << i;
    for (size_t j = 0; j < expected.values[i].size(); ++j) {
      if (std::isnan(expected.values[i][j])) continue;
      ASSERT_EQ(actual.values[i][j], expected.values[i][j]) << i << ", " << j;
    }
  }
  ASSERT_EQ(actual.memory.size(), expected.memory.size());
  for (size_t head = 0; head < expected.memory.size(); ++head) {
    EXPECT_EQ(actual.memory[head].tokens, expected.memory[head].tokens) << head;
    EXPECT_EQ(actual.memory[head].scores, expected.memory[head].scores) << head;
    EXPECT_EQ(actual.memory[head].sub_caches, expected.memory[head].sub_caches) << head;
  }
}

// Chunks and decodes in slot 0, past its cache, with every chunk cut into these numbers of layers;
// `beside` adds slot 1's lane to every step.
Trace Talk(TestRank& rank, const std::vector<int>& cuts, bool beside) {
  const bool leader = rank.communicator->rank() == 0;
  Trace trace;
  rank.Execute(Begin(0));
  if (beside) rank.Execute(Begin(1));
  int32_t neighbour = 3;
  const auto step = [&](StepPlan plan) {
    plan.synchronize = false;
    if (beside) {
      neighbour = (neighbour * 7 + 1) % kLeastVocabulary;
      plan.decodes.insert(plan.decodes.begin(),
                          {.cache_slot = 1, .token = neighbour, .next = If(neighbour % 2 == 0)});
    }
    return rank.Execute(plan);
  };
  for (int turn = 0; turn < 12; ++turn) {
    const int32_t first = 10 * turn;
    PlannedChunk chunk = {.cache_slot = 0,
                          .tokens = {first, first + 1, first + 2, first + 3},
                          .next = If(turn % 2 == 0),
                          .score = turn % 3 == 0};
    chunk.tokens.resize(1 + turn % 4);
    StepResult result;
    bool begins = true;
    for (int layers : cuts) {
      EXPECT_FALSE(result.chunk.has_value());
      StepPlan plan = Layers(layers);
      if (std::exchange(begins, false)) plan.chunk = chunk;
      result = step(plan);
    }
    EXPECT_TRUE(result.chunk.has_value());
    if (leader) {
      trace.values.push_back(ValuesOf(result.chunk->next));
      trace.values.push_back(result.chunk->scores);
    }
    const StepResult decoded =
        step(Decode({{.cache_slot = 0, .token = first + 7, .next = If(turn % 4 == 1)}}));
    if (leader) trace.values.push_back(ValuesOf(decoded.decodes.back()));
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    StepPlan plan;
    plan.inspection = Inspection{.cache_slot = 0, .layer = layer};
    for (HeadMemory& head : rank.Execute(plan).heads) trace.memory.push_back(std::move(head));
  }
  return trace;
}

const std::vector<std::vector<int>> kCuts = {{kLayers}, {1, 1, 1, 1, 1}, {4, 1},
                                             {1, 4},    {2, 3},          {1, 3, 1}};

TEST_F(StepExecutorTest, HowAChunkIsCutChangesNothing) {
  const Trace expected = Talk(rank_, {kLayers}, false);
  ASSERT_EQ(expected.memory.size(), size_t{kLayers * 3});
  ASSERT_EQ(expected.memory[0].tokens.size(), static_cast<size_t>(kCascade.total_slots()));
  for (const std::vector<int>& cuts : kCuts) {
    SCOPED_TRACE(testing::PrintToString(cuts));
    ExpectSame(Talk(rank_, cuts, false), expected);
    ExpectSame(Talk(rank_, cuts, true), expected);
  }
}

// Runs `body` on three ranks, each in a thread of its own.
template <typename Body>
void OnThreeRanks(const Body& body) {
  std::vector<std::unique_ptr<Communicator>> communicators = MakeInProcessGroup(3);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      TestRank rank(i, 3, std::move(communicators[i]));
      body(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A session takes a lane of the decode pass besides its cache.
TEST(StepExecutorMemoryTest, ASessionHasLogitsBesidesItsCache) {
  const TestRank rank(0, 1, MakeSingleCommunicator());
  const KvShape shape = {.layers = kLayers,
                         .kv_heads = 3,
                         .query_heads = 6,
                         .head_dim = 8,
                         .sessions = kSessions,
                         .slots = kCascade.total_slots(),
                         .max_step_rows = kCascade.stride,
                         .max_stride = kCascade.stride};
  const auto kv = rank.backend->AllocateKv(shape, {.rotations = 1, .head_dim = 8});
  ASSERT_TRUE(kv.ok()) << kv.status();
  const int64_t logits = 4 * (kLeastVocabulary + 2 * SummaryLines(kMostLikeliest));
  const int64_t least = (*kv)->bytes_per_session() + logits;
  EXPECT_GT(rank.executor->bytes_per_session(), least);
  EXPECT_LT(rank.executor->bytes_per_session(), 1.2 * least);
}

TEST(StepExecutorGroupTest, HowAChunkIsCutChangesNothingOnThreeRanks) {
  std::vector<std::vector<Trace>> traces(3);
  OnThreeRanks([&](TestRank& rank) {
    for (const std::vector<int>& cuts : kCuts) {
      for (bool beside : {false, true}) {
        traces[rank.communicator->rank()].push_back(Talk(rank, cuts, beside));
      }
    }
  });
  for (const Trace& trace : traces[0]) ExpectSame(trace, traces[0][0]);
  EXPECT_EQ(traces[0][0].memory.size(), size_t{kLayers * 3});
}

TEST(StepExecutorGroupTest, EveryLaneGetsWhatItAsksForOfAllRanks) {
  OnThreeRanks([](TestRank& rank) { AskForDifferentThings(rank); });
}

// Another session takes the slot in the middle of a chunk.
TEST_F(StepExecutorTest, AResetAbandonsTheChunkInProgress) {
  const Trace expected = Talk(rank_, {kLayers}, false);
  for (int layers = 1; layers < kLayers; ++layers) {
    Execute(Begin(0));
    Execute(Chunk({.cache_slot = 0, .tokens = {1, 2, 3, 4}}));
    Execute(Chunk({.cache_slot = 0, .tokens = {5, 6, 7, 8}, .score = true}, layers));
    ExpectSame(Talk(rank_, {2, 3}, false), expected);
  }
}

// Also in the middle of a chunk, and of one that is abandoned: what is scraped never falls.
TEST_F(StepExecutorTest, TotalsOnlyGrow) {
  std::vector<SubCacheStats> last;
  int64_t read = 0;  // by a layer's heads, at the first level
  const auto check = [&] {
    const std::vector<SubCacheStats> totals = executor().SubCacheTotals();
    ASSERT_EQ(totals.size(), static_cast<size_t>(kCascade.sub_caches));
    last.resize(totals.size());
    for (size_t level = 0; level < totals.size(); ++level) {
      EXPECT_GE(totals[level].accepts, last[level].accepts) << "level " << level;
      EXPECT_GE(totals[level].swaps, last[level].swaps) << "level " << level;
      EXPECT_GE(totals[level].drops, last[level].drops) << "level " << level;
    }
    EXPECT_EQ(totals[0].accepts + totals[0].swaps + totals[0].drops, 3 * read);
    last = totals;
  };
  Execute(Begin(0));
  Execute(Chunk({.cache_slot = 0, .tokens = {0}}));  // the sink, which no level sees
  for (int turn = 0; turn < 10; ++turn) {
    Execute(Chunk({.cache_slot = 0, .tokens = {1, 2, 3, turn}}, 2));
    read += 2 * 4;
    check();
    if (turn == 8) break;
    Execute(Layers(kLayers - 2));
    read += (kLayers - 2) * 4;
    check();
    Execute(Decode({{.cache_slot = 0, .token = turn}}));
    read += kLayers;
    check();
  }
  Execute(Begin(0));
  check();
  EXPECT_GT(last[1].swaps + last[1].drops, 0);
}

TEST_F(StepExecutorTest, AGroupThatFormsAgainKnowsNothing) {
  Execute(Begin(0));
  Execute(Chunk({.cache_slot = 0, .tokens = {1, 2}}, 2));
  executor().LeaveGroup();
  ASSERT_TRUE(executor().JoinGroup(rank_.communicator.get()).ok());
  EXPECT_FALSE(executor().Validate(Layers(1)).ok());
  EXPECT_FALSE(executor().Validate(Decode({{.cache_slot = 0, .token = 1}})).ok());
  Execute(Begin(0));
  EXPECT_TRUE(executor().Validate(Chunk({.cache_slot = 0, .tokens = {1, 2}})).ok());
}

}  // namespace
}  // namespace weir
