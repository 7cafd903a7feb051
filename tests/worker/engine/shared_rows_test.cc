// Rows that ranks share are summed and normalised by shares, and nothing else comes of a text than
// without: on the CPU, where this test shares them, and on as many GPUs as there are.

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/executor_group.h"
#include "worker/comm/communicator.h"

namespace weir {
namespace {

constexpr int kLayers = 3;
constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 60, .sub_caches = 3, .stride = 512};

const std::string& ModelPath() {
  static const std::string* const path =
      new std::string(WriteModel(MakeRandomModel({.layers = kLayers,
                                                  .hidden = 128,
                                                  .heads = 12,
                                                  .kv_heads = 6,
                                                  .head_dim = 64,
                                                  .ffn = 192,
                                                  .vocabulary = kLeastVocabulary},
                                                 1),
                                 "shared_rows_test"));
  return *path;
}

// A communicator of host memory that shares rows, with the means of one that does not. What a rank
// is not to rely on becomes NaN: the residual outside of its share, and the sum's parts.
class SharingCommunicator : public Communicator {
 public:
  SharingCommunicator(std::unique_ptr<Communicator> base, Backend& backend, int* sums)
      : base_(std::move(base)), backend_(backend), sums_(sums) {}

  int rank() const override { return base_->rank(); }
  int size() const override { return base_->size(); }
  absl::Status AllReduceSum(Tensor x) override { return base_->AllReduceSum(x); }
  absl::Status AllGather(Tensor x, Tensor out) override { return base_->AllGather(x, out); }
  absl::Status Broadcast(std::string& bytes) override { return base_->Broadcast(bytes); }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    return base_->Gather(bytes);
  }
  absl::Status Poll() override { return base_->Poll(); }
  void Abort() override { base_->Abort(); }

  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t rows, int64_t cols) override {
    delta_.resize(rows * cols);
    normed_.resize(rows * cols);
    shared_ = {.delta = {delta_.data(), ElementType::kFloat32, rows, cols},
               .normed = {normed_.data(), ElementType::kFloat32, rows, cols}};
    return shared_;
  }

  absl::Status SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) override {
    ++*sums_;
    const int64_t rows = residual.rows;
    const int64_t begin = rows * rank() / size();
    const int64_t end = rows * (rank() + 1) / size();
    const Tensor delta = shared_.delta.Rows(0, rows);
    const Tensor normed = shared_.normed.Rows(0, rows);
    if (absl::Status status = base_->AllReduceSum(delta); !status.ok()) return status;
    std::fill_n(normed.f32(), normed.elements(), 0.0f);
    backend_.AddRmsNorm(residual.Rows(begin, end - begin), delta.Rows(begin, end - begin), weight,
                        epsilon, normed.Rows(begin, end - begin));
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(delta.f32(), delta.elements(), kNaN);
    std::fill_n(residual.f32(), begin * residual.cols, kNaN);
    std::fill_n(residual.Rows(end, 0).f32(), (rows - end) * residual.cols, kNaN);
    return base_->AllReduceSum(normed);  // a share and zeros
  }

 private:
  const std::unique_ptr<Communicator> base_;
  Backend& backend_;
  int* const sums_;
  std::vector<float> delta_, normed_;
  SharedRows shared_;
};

using SharedRowsTest = GroupTest;

INSTANTIATE_TEST_SUITE_P(Groups, SharedRowsTest,
                         testing::Values(GroupCase{"cpu", 2}, GroupCase{"cpu", 3},
                                         GroupCase{"cuda", 2}, GroupCase{"cuda", 3}),
                         GroupCaseName);

// The scores of a text in chunks of many and of few rows, of which some stop for another session's
// token after each layer, and what a head remembers in the end.
struct Outcome {
  std::vector<float> scores;
  std::vector<std::vector<int64_t>> tokens;
};

Outcome Read(const ExecutorGroupOptions& options) {
  Outcome outcome;
  RunExecutorGroup(options, [&](ExecutorRank& rank) {
    const auto execute = [&](StepPlan plan) {
      absl::StatusOr<StepResult> result = rank.ExecuteLeaders(plan);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok() || rank.number() != 0) return;
      if (result->chunk.has_value()) {
        outcome.scores.insert(outcome.scores.end(), result->chunk->scores.begin(),
                              result->chunk->scores.end());
      }
      for (const HeadMemory& head : result->heads) outcome.tokens.push_back(head.tokens);
    };
    StepPlan begin;
    begin.resets = {{.cache_slot = 0, .cascade = kCascade}, {.cache_slot = 1, .cascade = kCascade}};
    execute(begin);
    // Below 512 rows, from which on sums that hide under products cut a chunk in two.
    for (const int rows : {510, 300, 7, 511, 257, 256, 255, 508}) {
      StepPlan plan;
      plan.chunk = PlannedChunk{
          .cache_slot = 0, .tokens = RandomTokens(rows, kLeastVocabulary, rows), .score = true};
      const bool stops = rows % 2 == 1;
      plan.chunk_layers = stops ? 1 : kLayers;
      execute(plan);
      for (int layer = 1; stops && layer < kLayers; ++layer) {
        StepPlan next;
        next.decodes.push_back({.cache_slot = 1, .token = layer});
        next.chunk_layers = 1;
        execute(next);
      }
    }
    StepPlan inspect;
    inspect.inspection = Inspection{.cache_slot = 0, .layer = kLayers - 1};
    execute(inspect);
  });
  return outcome;
}

TEST_P(SharedRowsTest, ATextIsReadAsWithoutThem) {
  const auto& [device, ranks] = GetParam();
  ExecutorGroupOptions options = {.model_path = ModelPath(),
                                  .device = device,
                                  .ranks = ranks,
                                  .sessions = 2,
                                  .cascade = kCascade};
  options.shares_memory = false;
  const Outcome apart = Read(options);
  options.shares_memory = true;
  std::vector<int> sums(ranks, 0);
  if (device == "cpu") {
    options.wrap = [&](std::unique_ptr<Communicator> base, Backend& backend) {
      int* const count = &sums[base->rank()];
      return std::make_unique<SharingCommunicator>(std::move(base), backend, count);
    };
  }
  const Outcome shared = Read(options);

  ASSERT_EQ(apart.scores.size(), 2604u);
  ASSERT_EQ(shared.scores.size(), apart.scores.size());
  for (size_t i = 1; i < apart.scores.size(); ++i) {  // nothing foretells the first
    ASSERT_EQ(shared.scores[i], apart.scores[i]) << "token " << i;
  }
  EXPECT_EQ(shared.tokens, apart.tokens);
  // Two sums a layer, of the six chunks that are long enough.
  if (device == "cpu") {
    EXPECT_EQ(sums, std::vector<int>(ranks, 6 * 2 * kLayers));
  }
}

}  // namespace
}  // namespace weir
