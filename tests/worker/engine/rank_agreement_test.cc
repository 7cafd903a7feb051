// All ranks of a group do the same, and one that does not is found out: on the CPU, and on as many
// GPUs as there are.

#include "worker/engine/rank_agreement.h"

#include <barrier>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "tests/worker/comm/rank_threads.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/executor_group.h"
#include "worker/comm/in_process_group.h"

namespace weir {
namespace {

using testing::HasSubstr;

constexpr int kLayers = 2;
constexpr int kKvHeads = 12;
constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 48, .sub_caches = 3, .stride = 32};

// A model that 2, 3 and 4 ranks can share and a GPU can read.
const std::string& ModelPath() {
  static const std::string* const path =
      new std::string(WriteModel(MakeRandomModel({.layers = kLayers,
                                                  .hidden = 128,
                                                  .heads = 2 * kKvHeads,
                                                  .kv_heads = kKvHeads,
                                                  .head_dim = 64,
                                                  .ffn = 192,
                                                  .vocabulary = kLeastVocabulary},
                                                 1),
                                 "rank_agreement_test"));
  return *path;
}

StepPlan ReadChunk(std::vector<int32_t> tokens, std::optional<LikeliestRequest> next) {
  StepPlan plan;
  plan.chunk = PlannedChunk{.cache_slot = 0, .tokens = std::move(tokens), .next = next};
  plan.chunk_layers = kLayers;
  return plan;
}

// The session of slot 0 begins with this chunk.
StepPlan Begin(std::vector<int32_t> tokens, std::optional<LikeliestRequest> next = std::nullopt) {
  StepPlan plan = ReadChunk(std::move(tokens), next);
  plan.resets.push_back({.cache_slot = 0, .cascade = kCascade});
  return plan;
}

StepPlan Decode(int32_t token, std::optional<LikeliestRequest> next = std::nullopt) {
  StepPlan plan;
  plan.decodes.push_back({.cache_slot = 0, .token = token, .next = next});
  return plan;
}

StepPlan Inspect(int layer) {
  StepPlan plan;
  plan.inspection = Inspection{.cache_slot = 0, .layer = layer};
  return plan;
}

class RankAgreementTest : public GroupTest {
 protected:
  int ranks() const { return GetParam().ranks; }
  ExecutorGroupOptions Options(int ranks) const {
    return {.model_path = ModelPath(),
            .device = GetParam().device,
            .ranks = ranks,
            .cascade = kCascade};
  }
  void Print(const std::string& figures) const {
    std::fprintf(stderr, "%d ranks, %s: %s\n", ranks(), GetParam().device.c_str(), figures.c_str());
  }
};

INSTANTIATE_TEST_SUITE_P(Groups, RankAgreementTest,
                         testing::Values(GroupCase{"cpu", 2}, GroupCase{"cpu", 3},
                                         GroupCase{"cuda", 2}, GroupCase{"cuda", 4}),
                         GroupCaseName);

// Rank 0 draws each token from what all ranks have computed; what the others read is noted by them.
TEST_P(RankAgreementTest, AThousandDecodedTokensAreTheSameOnEveryRank) {
  constexpr int kTokens = 1000;
  std::vector<std::vector<int32_t>> read[2];  // by rank, for the first and for the second time
  std::vector<std::vector<LiveSlot>> live(ranks());
  for (std::vector<std::vector<int32_t>>& tokens : read) tokens.resize(ranks());
  absl::Duration step_time;

  RunExecutorGroup(Options(ranks()), [&](ExecutorRank& rank) {
    const auto draw = [](uint64_t index) {
      return LikeliestRequest{.seed = 3, .index = index, .draw = true};
    };
    for (std::vector<std::vector<int32_t>>& tokens : read) {
      StepPlan plan = Begin({5, 6, 7, 8, 9}, draw(0));
      absl::StatusOr<StepResult> result = rank.ExecuteLeaders(plan);
      ASSERT_TRUE(result.ok()) << result.status();
      std::optional<LogitsSummary> next = result->chunk->next;
      const absl::Time start = absl::Now();
      for (int i = 1; i <= kTokens; ++i) {
        // Other ranks have no token to propose, but are told.
        plan = Decode(next.has_value() ? next->drawn.token : 0, draw(i));
        plan.step = i;
        result = rank.ExecuteLeaders(plan);
        ASSERT_TRUE(result.ok()) << "step " << i << ": " << result.status();
        tokens[rank.number()].push_back(*plan.decodes[0].token);
        next = result->decodes[0];
      }
      if (rank.number() == 0) step_time = (absl::Now() - start) / kTokens;
    }
    EXPECT_EQ(rank.executor().cache(0).tokens(), kTokens + 5);
    live[rank.number()] = rank.executor().cache(0).LiveSlots();
  });

  const std::vector<int32_t>& told = read[0][0];
  EXPECT_EQ(told.size(), size_t{kTokens});
  for (int rank = 0; rank < ranks(); ++rank) {
    EXPECT_EQ(read[0][rank], told) << "rank " << rank;
    EXPECT_EQ(read[1][rank], told) << "again, rank " << rank;
    EXPECT_EQ(live[rank], live[0]) << "rank " << rank;
  }
  const size_t different = std::set<int32_t>(told.begin(), told.end()).size();
  EXPECT_GT(different, 50u);
  Print(absl::StrCat(told.size(), " tokens, ", different, " different ones, ",
                     absl::FormatDuration(step_time), " a step with its check"));
}

// What all heads of each layer remember of the same tokens, far past their cache.
std::vector<std::vector<HeadMemory>> Remember(const ExecutorGroupOptions& options) {
  std::vector<std::vector<HeadMemory>> layers(kLayers);
  RunExecutorGroup(options, [&](ExecutorRank& rank) {
    const auto execute = [&](StepPlan plan) {
      const absl::StatusOr<StepResult> result = rank.ExecuteLeaders(plan);
      EXPECT_TRUE(result.ok()) << result.status();
      return result.ok() ? result->heads : std::vector<HeadMemory>();
    };
    const auto text = [](int count, int seed) {
      return RandomTokens(count, kLeastVocabulary, seed);
    };
    execute(Begin(text(kCascade.stride, 1)));
    for (int turn = 2; turn < 20; ++turn) {
      execute(ReadChunk(text(turn % 3 == 0 ? kCascade.stride : 3 + turn, turn), std::nullopt));
      for (const int32_t token : text(10, 100 + turn)) execute(Decode(token));
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      std::vector<HeadMemory> heads = execute(Inspect(layer));
      if (rank.number() == 0) layers[layer] = std::move(heads);
    }
  });
  return layers;
}

// What the first layer's heads see is a sum of nothing over ranks, so their scores are the same on
// any number of ranks, bit for bit, whatever the weights; and so has to be what they keep.
TEST_P(RankAgreementTest, HeadsKeepTheSameTokensAsOnOneRank) {
  const std::vector<std::vector<HeadMemory>> one = Remember(Options(1));
  const std::vector<std::vector<HeadMemory>> many = Remember(Options(ranks()));
  const auto kept = [](const std::vector<HeadMemory>& heads) {
    std::set<std::vector<int64_t>> kept;
    for (const HeadMemory& head : heads) kept.insert(head.tokens);
    return kept.size();
  };
  ASSERT_EQ(one[0].size(), size_t{kKvHeads});
  ASSERT_EQ(many[0].size(), size_t{kKvHeads});
  for (int head = 0; head < kKvHeads; ++head) {
    EXPECT_EQ(many[0][head].kv_head, head);
    EXPECT_EQ(many[0][head].tokens.size(), static_cast<size_t>(kCascade.total_slots()));
    EXPECT_EQ(many[0][head].scores, one[0][head].scores) << "head " << head;
    EXPECT_EQ(many[0][head].tokens, one[0][head].tokens) << "head " << head;
    EXPECT_EQ(many[0][head].sub_caches, one[0][head].sub_caches) << "head " << head;
  }
  // It is the scores that decide: heads keep different tokens.
  EXPECT_GT(kept(one[0]), 1u);

  int alike = 0;
  for (int head = 0; head < kKvHeads; ++head) {
    alike += many.back()[head].tokens == one.back()[head].tokens;
  }
  Print(absl::StrCat(kKvHeads, " heads keep ", kept(one[0]), " different sets; in the last layer ",
                     alike, " keep the same as on one rank, whose sums are rounded otherwise"));
}

// Executes `own(rank)` as step 7 on every rank, after steps that all execute alike.
std::vector<absl::Status> ExecuteDifferently(const ExecutorGroupOptions& options,
                                             const std::function<StepPlan(int)>& own) {
  std::vector<absl::Status> statuses(options.ranks);
  RunExecutorGroup(options, [&](ExecutorRank& rank) {
    for (StepPlan plan : {Begin({5, 6, 7}), Decode(8), Decode(9)}) {
      const absl::Status status = rank.ExecuteLeaders(plan).status();
      ASSERT_TRUE(status.ok()) << status;
    }
    StepPlan plan = own(rank.number());
    plan.step = 7;
    statuses[rank.number()] = rank.Execute(plan).status();
  });
  return statuses;
}

TEST_P(RankAgreementTest, ARankThatExecutesAnotherPlanIsNamedOnAllRanks) {
  const int last = ranks() - 1;
  const std::vector<std::function<StepPlan(int)>> different = {
      [last](int rank) { return Decode(rank == last ? 11 : 10); },
      [last](int rank) { return rank == last ? ReadChunk({10}, std::nullopt) : Decode(10); },
      [last](int rank) { return rank == last ? StepPlan() : Decode(10); }};
  for (const std::function<StepPlan(int)>& own : different) {
    for (const absl::Status& status : ExecuteDifferently(Options(ranks()), own)) {
      EXPECT_EQ(status, absl::InternalError(absl::StrCat("ranks disagree on step 7: rank ", last,
                                                         " differs from rank 0")));
    }
  }
}

TEST_P(RankAgreementTest, ALeaderThatDoesNotDoWhatItSaysIsContradictedByAll) {
  const std::vector<absl::Status> statuses =
      ExecuteDifferently(Options(ranks()), [](int rank) { return Decode(rank == 0 ? 11 : 10); });
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    for (int rank = 1; rank < ranks(); ++rank) {
      EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("rank ", rank)));
    }
  }
}

// Can be cut off from the others: then all ranks seem to do what this one does.
class StrayCommunicator : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;

  void set_alone(bool alone) { alone_ = alone; }

  absl::Status AllReduceSum(Tensor x) override {
    return alone_ ? absl::OkStatus() : ForwardingCommunicator::AllReduceSum(x);
  }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    gathered_ = bytes;
    if (alone_) return std::vector<std::string>();
    return ForwardingCommunicator::Gather(bytes);
  }
  absl::Status Broadcast(std::string& bytes) override {
    if (!alone_) return ForwardingCommunicator::Broadcast(bytes);
    bytes.clear();
    for (int rank = 0; rank < size(); ++rank) bytes += gathered_;
    return absl::OkStatus();
  }

 private:
  bool alone_ = false;
  std::string gathered_;
};

// Every rank gets the same plan, but to one of them it means another position.
TEST(RankDriftTest, ARankWhoseCountersHaveDriftedIsCaught) {
  const ExecutorGroupOptions options = {.model_path = ModelPath(), .ranks = 2, .cascade = kCascade};
  for (const StepPlan& plan : {Decode(9), ReadChunk({9, 10}, std::nullopt)}) {
    std::vector<std::unique_ptr<Communicator>> communicators = MakeInProcessGroup(2);
    std::barrier<> over(2);
    RunRanks(2, [&](int number) {
      ExecutorRank rank(options, number);
      auto communicator = std::make_unique<StrayCommunicator>(std::move(communicators[number]));
      StrayCommunicator& stray = *communicator;
      rank.Join(std::move(communicator));
      EXPECT_TRUE(rank.Execute(Begin({5, 6, 7})).ok());
      if (number == 1) {
        stray.set_alone(true);
        EXPECT_TRUE(rank.Execute(Decode(8)).ok());
        stray.set_alone(false);
      }
      EXPECT_EQ(rank.Execute(plan).status(),
                absl::InternalError("ranks disagree on step 0: rank 1 differs from rank 0"));
      over.arrive_and_wait();
    });
  }
}

// From the sixth token on reads another one than was sent.
class MisreadingCommunicator : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;

  absl::Status Broadcast(std::string& bytes) override {
    if (absl::Status status = ForwardingCommunicator::Broadcast(bytes); !status.ok()) return status;
    absl::StatusOr<StepPlan> plan = ParseStepPlan(bytes);
    if (!plan.ok() || plan->decodes.empty() || !plan->decodes[0].token.has_value()) {
      return absl::OkStatus();
    }
    if (++tokens_ > 5) *plan->decodes[0].token ^= 1;
    bytes = SerializeStepPlan(*plan);
    return absl::OkStatus();
  }

 private:
  int tokens_ = 0;
};

class MisreadingFollowerTest : public testing::TestWithParam<bool> {};

TEST_P(MisreadingFollowerTest, EndsItsGroupIfRanksAreChecked) {
  const bool checked = GetParam();
  RankOptions options;
  options.model_path = ModelPath();
  options.tensor_parallel = 2;
  options.engine.max_sessions = 1;
  options.engine.cascade = kCascade;
  options.engine.check_ranks_agree = checked;
  std::vector<std::unique_ptr<Communicator>> communicators = MakeInProcessGroup(2);
  communicators[1] = std::make_unique<MisreadingCommunicator>(std::move(communicators[1]));
  std::vector<std::unique_ptr<Rank>> ranks;
  std::vector<std::unique_ptr<Engine>> engines;
  for (int rank = 0; rank < 2; ++rank) {
    options.rank = rank;
    ranks.push_back(*Rank::Load(options));
    engines.push_back(*ranks[rank]->StartEngine(communicators[rank].get()));
  }

  Engine& leader = *engines[0];
  ASSERT_TRUE(leader.OpenSession("s", kCascade).ok());
  const std::vector<int32_t> text = RandomTokens(20, kLeastVocabulary, 1);
  const RunResult result = Generate(leader, "s", ExactlyTokens(30), text);
  if (checked) {
    // The text is read, and followed by 6 tokens: the sixth is read wrongly.
    EXPECT_EQ(result.tokens.size(), 6u);
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(result.status.message(), HasSubstr("rank 1 differs from rank 0"));
    for (const std::unique_ptr<Engine>& engine : engines) {
      EXPECT_EQ(engine->Wait(), result.status);
    }
  } else {
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens.size(), 30u);
  }
  engines[0].reset();
  engines[1].reset();
}

INSTANTIATE_TEST_SUITE_P(Checked, MisreadingFollowerTest, testing::Bool(),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace weir
