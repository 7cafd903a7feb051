#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/naive_llama.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"

namespace weir {
namespace {

// How far the engine's float32 may be from the reference's double precision.
constexpr double kLogprobError = 1e-4;
constexpr double kScoreError = 5e-5;  // relative
// A contest of two scores this close, relatively, may go either way in float32.
constexpr double kTie = 2 * kScoreError;

struct Scenario {
  NaiveLlamaConfig model;
  CascadeConfig cascade;
};

int Between(std::mt19937_64& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

Scenario RandomScenario(std::mt19937_64& random) {
  Scenario scenario;
  NaiveLlamaConfig& model = scenario.model;
  model.layers = Between(random, 1, 3);
  model.kv_heads = Between(random, 1, 3);
  model.heads = model.kv_heads * Between(random, 1, 3);
  model.head_dim = 8 * Between(random, 1, 3);
  model.hidden = 16 * Between(random, 1, 3);
  model.ffn = 16 * Between(random, 1, 4);
  model.vocabulary = kLeastVocabulary + Between(random, 0, 9);
  model.rope_base = 1000.0;

  CascadeConfig& cascade = scenario.cascade;
  const int sub_caches[] = {1, 2, 3, 4, 8};
  cascade.sub_caches = sub_caches[Between(random, 0, 4)];
  // Often rings of one slot, and chunks longer than the whole cache.
  cascade.slots = cascade.sub_caches * (Between(random, 0, 3) == 0 ? 1 : Between(random, 1, 9));
  cascade.sinks = Between(random, 0, 7);
  cascade.stride = Between(random, 0, 3) == 0 ? cascade.total_slots() + Between(random, 1, 40)
                                              : Between(random, 1, 12);
  const double betas[] = {0.0, 0.9, 0.999, 0.9999999, 1.0};
  cascade.beta = betas[Between(random, 0, 4)];
  cascade.head_reduction = Between(random, 0, 1) == 0 ? HeadReduction::kMax : HeadReduction::kMean;
  return scenario;
}

NaiveCascadeSettings NaiveSettings(const CascadeConfig& cascade) {
  return {.sinks = cascade.sinks,
          .slots = cascade.slots,
          .sub_caches = cascade.sub_caches,
          .stride = cascade.stride,
          .beta = cascade.beta,
          .head_reduction = cascade.head_reduction == HeadReduction::kMax
                                ? NaiveHeadReduction::kMax
                                : NaiveHeadReduction::kMean};
}

// One session in the engine and, step by step, in the naive reference. Every run is followed by a
// comparison of all that the session remembers.
class Pair {
 public:
  Pair(Engine& engine, const NaiveLlamaModel& model, const CascadeConfig& cascade)
      : engine_(engine),
        config_(model.config),
        sub_caches_(cascade.sub_caches),
        naive_(model, NaiveSettings(cascade)) {
    EXPECT_TRUE(engine.OpenSession("s", cascade).ok());
    contests_.assign(config_.layers, std::vector<size_t>(config_.kv_heads, 0));
  }

  void Append(const std::vector<int>& text) {
    const RunResult result = weir::Append(engine_, "s", text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens_read, text.size());
    ReadPending();
    Take(naive_.Append(text));
    Compare();
  }

  void Score(const std::vector<int>& text) {
    const RunResult result = weir::Score(engine_, "s", text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.scores.size(), text.size());
    ReadPending();
    size_t i = 0;
    for (const std::vector<double>& logits : naive_.Append(text)) {
      EXPECT_EQ(result.scores[i].token, text[i]);
      if (next_.empty()) {
        EXPECT_TRUE(std::isnan(result.scores[i].logprob));
      } else {
        CompareLogprob(result.scores[i].logprob, NaiveLogSoftmax(next_)[text[i]]);
      }
      next_ = logits;
      ++i;
    }
    Compare();
  }

  void Generate(int count, double temperature, const std::vector<int>& text) {
    const RunResult result =
        weir::Generate(engine_, "s", ExactlyTokens(count, temperature, 7), text);
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.tokens.size(), count);
    ReadPending();
    Take(naive_.Append(text));
    for (int i = 0; i < count; ++i) {
      ReadPending();
      const std::vector<double> expected = NaiveLogSoftmax(next_);
      CompareLogprob(result.logprobs[i], expected[result.tokens[i]]);
      ASSERT_EQ(result.top[i].size(), 3u);
      for (const TokenLogprob& top : result.top[i]) {
        CompareLogprob(top.logprob, expected[top.token]);
      }
      pending_ = {result.tokens[i]};
    }
    Compare();
  }

  // Whether a contest too close to call went the other way in the engine: what follows it in either
  // is right and cannot be compared.
  bool parted() const { return parted_; }
  double largest_score_error() const { return largest_score_error_; }
  double largest_logprob_error() const { return largest_logprob_error_; }
  size_t contests_compared() const { return contests_compared_; }

 private:
  // The token generated last is read before anything else.
  void ReadPending() {
    if (!pending_.empty()) Take(naive_.Append(pending_));
    pending_.clear();
  }
  void Take(const std::vector<std::vector<double>>& logits) {
    if (!logits.empty()) next_ = logits.back();
  }

  void CompareLogprob(double actual, double expected) {
    const double error = std::abs(actual - expected);
    logprob_error_ = std::max(logprob_error_, error);
    if (!(error <= kLogprobError)) {
      absl::StrAppend(&difference_, "log-probability ", actual, " for ", expected, "\n");
    }
  }

  void Compare() {
    const int64_t filled = naive_.cache(0, 0).KeptIndices().size();
    EXPECT_EQ(engine_.Describe("s")->tokens_cached, filled);
    for (int layer = 0; layer < config_.layers; ++layer) {
      const absl::StatusOr<std::vector<HeadMemory>> heads = engine_.Inspect("s", layer);
      ASSERT_TRUE(heads.ok()) << heads.status();
      ASSERT_EQ(heads->size(), config_.kv_heads);
      for (int head = 0; head < config_.kv_heads; ++head) {
        EXPECT_EQ((*heads)[head].kv_head, head);
        CompareHead((*heads)[head], layer, head);
      }
    }
    const bool close = LookAtContests();
    if (!difference_.empty()) {
      EXPECT_TRUE(close) << difference_;
      parted_ = true;
      return;
    }
    largest_logprob_error_ = std::max(largest_logprob_error_, logprob_error_);
    largest_score_error_ = std::max(largest_score_error_, score_error_);
  }

  void CompareHead(const HeadMemory& memory, int layer, int head) {
    const NaiveCascade& expected = naive_.cache(layer, head);
    const std::vector<int64_t> kept = expected.KeptIndices();
    if (memory.tokens != kept) {
      absl::StrAppend(&difference_, "layer ", layer, " head ", head, " keeps ",
                      absl::StrJoin(memory.tokens, " "), ", not ", absl::StrJoin(kept, " "), "\n");
      return;
    }
    size_t i = expected.sinks().size();  // whose scores decide nothing
    for (int ring = sub_caches_ - 1; ring >= 0; --ring) {
      for (const NaiveCachedToken& token : expected.ring(ring)) {
        EXPECT_EQ(memory.sub_caches[i], ring);
        const double error = std::abs(memory.scores[i] - token.score) / token.score;
        score_error_ = std::max(score_error_, error);
        if (!(error <= kScoreError)) {
          absl::StrAppend(&difference_, "layer ", layer, " head ", head, " token ", token.index,
                          " has score ", memory.scores[i], ", not ", token.score, "\n");
        }
        ++i;
      }
    }
  }

  // Whether a contest since the last comparison was too close to call.
  bool LookAtContests() {
    bool close = false;
    for (int layer = 0; layer < config_.layers; ++layer) {
      for (int head = 0; head < config_.kv_heads; ++head) {
        const std::vector<NaiveContest>& contests = naive_.cache(layer, head).contests();
        size_t& seen = contests_[layer][head];
        contests_compared_ += contests.size() - seen;
        for (; seen < contests.size(); ++seen) {
          const NaiveContest& contest = contests[seen];
          const double margin = std::abs(contest.arrival_score - contest.newest_score);
          close |= margin <= kTie * std::max(contest.arrival_score, contest.newest_score);
        }
      }
    }
    return close;
  }

  Engine& engine_;
  const NaiveLlamaConfig config_;
  const int sub_caches_;
  NaiveLlamaSession naive_;
  std::vector<int> pending_;
  std::vector<double> next_;  // logits of the next token

  std::string difference_;  // of the last run
  bool parted_ = false;
  double score_error_ = 0;
  double logprob_error_ = 0;
  double largest_score_error_ = 0;
  double largest_logprob_error_ = 0;
  std::vector<std::vector<size_t>> contests_;  // [layers][kv_heads], seen so far
  size_t contests_compared_ = 0;
};

struct Totals {
  int scenarios = 0;
  int parted = 0;
  size_t contests = 0;
  double score_error = 0;
  double logprob_error = 0;
};

void RunScenario(uint64_t seed, Totals& totals) {
  std::mt19937_64 random(seed);
  const Scenario scenario = RandomScenario(random);
  const NaiveLlamaModel model = MakeRandomModel(scenario.model, seed);
  RankOptions options;
  options.model_path = WriteModel(model, "naive_reference");
  options.engine.max_sessions = 2;
  options.engine.cascade = scenario.cascade;
  TestGroup group(options);
  Pair pair(group.leader(), model, scenario.cascade);

  const int lengths = 3 * scenario.cascade.total_slots() + 2 * scenario.cascade.stride;
  for (int part = 0; part < 8 && !pair.parted(); ++part) {
    const std::vector<int> text =
        RandomTokens(Between(random, 1, lengths), scenario.model.vocabulary, random());
    switch (part % 4) {
      case 0:
        pair.Append(text);
        break;
      case 1:
        pair.Score(text);
        break;
      case 2:
        pair.Generate(Between(random, 1, 12), part < 4 ? 0.0 : 1.0, text);
        break;
      case 3:
        pair.Generate(Between(random, 1, 12), 0.8, {});
        break;
    }
    if (testing::Test::HasFailure()) return;
  }
  ++totals.scenarios;
  totals.parted += pair.parted() ? 1 : 0;
  totals.contests += pair.contests_compared();
  totals.score_error = std::max(totals.score_error, pair.largest_score_error());
  totals.logprob_error = std::max(totals.logprob_error, pair.largest_logprob_error());
}

// WEIR_TEST_SCENARIOS asks for more.
TEST(NaiveReferenceTest, SameMemoryAndLogprobsFarPastTheCache) {
  const char* const asked = std::getenv("WEIR_TEST_SCENARIOS");
  const int count = asked == nullptr ? 300 : std::atoi(asked);
  Totals totals;
  for (int seed = 0; seed < count; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RunScenario(seed, totals);
    if (HasFailure()) return;
  }
  std::printf(
      "%d scenarios, %zu contests, %d scenarios parted at a tie; score error %.1e, "
      "log-probability error %.1e\n",
      totals.scenarios, totals.contests, totals.parted, totals.score_error, totals.logprob_error);
  EXPECT_EQ(totals.scenarios, count);
  EXPECT_LE(totals.parted, count / 50);
}

TEST(NaiveReferenceTest, OneSubCacheKeepsTheSinksAndTheLastTokens) {
  const NaiveLlamaConfig config = {.layers = 2,
                                   .hidden = 16,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 8,
                                   .ffn = 16,
                                   .vocabulary = kLeastVocabulary,
                                   .rope_base = 1000.0};
  RankOptions options;
  options.model_path = WriteModel(MakeRandomModel(config, 1), "one_sub_cache");
  options.engine.max_sessions = 1;
  options.engine.cascade = {.sinks = 5, .slots = 24, .sub_caches = 1, .stride = 40};
  TestGroup group(options);
  Engine& engine = group.leader();
  for (const CascadeConfig& cascade :
       {CascadeConfig{.sinks = 5, .slots = 24, .sub_caches = 1, .stride = 7},
        CascadeConfig{.sinks = 0, .slots = 1, .sub_caches = 1, .stride = 3},
        CascadeConfig{.sinks = 3, .slots = 10, .sub_caches = 1, .stride = 40}}) {
    ASSERT_TRUE(engine.OpenSession("s", cascade).ok());
    int64_t seen = 0;
    for (int length : {1, 6, 50, 13, 2, 90, 41}) {
      ASSERT_TRUE(Append(engine, "s", RandomTokens(length, kLeastVocabulary, seen)).status.ok());
      seen += length;
      std::vector<int64_t> expected;
      for (int64_t token = 0; token < seen; ++token) {
        if (token < cascade.sinks || token >= seen - cascade.slots) expected.push_back(token);
      }
      for (int layer = 0; layer < config.layers; ++layer) {
        const std::vector<HeadMemory> heads = *engine.Inspect("s", layer);
        ASSERT_EQ(heads.size(), 2u);
        for (const HeadMemory& memory : heads) EXPECT_EQ(memory.tokens, expected);
      }
    }
    ASSERT_TRUE(engine.CloseSession("s").ok());
  }
}

}  // namespace
}  // namespace weir
