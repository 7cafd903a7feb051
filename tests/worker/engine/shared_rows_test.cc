// Rows that ranks share are summed and normalised by shares, and nothing else comes of a text than
// without: on the CPU, where this test shares them, and on as many GPUs as there are.

#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/row_share.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/random_model.h"
#include "tests/worker/comm/counting_communicator.h"
#include "tests/worker/comm/forwarding_communicator.h"
#include "tests/worker/engine/executor_group.h"
#include "worker/comm/communicator.h"

namespace weir {
namespace {

constexpr int kLayers = kSharedModelLayers;
constexpr CascadeConfig kCascade = {.sinks = 4, .slots = 60, .sub_caches = 3, .stride = 512};

// Shares rows, with the means of a communicator that does not: parts are summed by AllReduceSum,
// and normed rows gathered by adding zeros to them. What a rank is not to rely on becomes NaN: the
// residual outside of its share, and all parts of a sum once it is taken.
class SharingCommunicator : public ForwardingCommunicator {
 public:
  SharingCommunicator(std::unique_ptr<Communicator> base, Backend& backend)
      : ForwardingCommunicator(std::move(base)), backend_(backend) {}

  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t rows, int64_t cols) override {
    const auto allocate = [&](int64_t count) {
      return *backend_.AllocateTensor(backend_.activation_type(), count, cols);
    };
    zeros_ = *backend_.LoadVector(std::vector<float>(rows * cols, 0.0f));
    // Not a number, neither as float32 nor as two of bfloat16.
    nans_ = *backend_.LoadVector(std::vector<float>(rows * cols, std::bit_cast<float>(0x7fc07fc0)));
    shared_.normed = allocate(rows);
    for (int peer = 0; peer < size(); ++peer) {
      shared_.deltas.push_back(allocate(MostRowsOfShare(rows, size())));
      Fill(shared_.deltas.back(), nans_);
    }
    return shared_;
  }

  absl::Status Poll() override {
    asked_ = true;
    return ForwardingCommunicator::Poll();
  }

  absl::Status SumAddRmsNorm(Tensor residual, Tensor weight, float epsilon) override {
    EXPECT_TRUE(std::exchange(asked_, false)) << "others' memory was written without a question";
    const Tensor normed = shared_.normed.Rows(0, residual.rows);
    Fill(normed, zeros_);
    for (int peer = 0; peer < size(); ++peer) {
      const RowShare share = ShareOfRows(residual.rows, peer, size());
      const Tensor delta = shared_.deltas[peer].Rows(0, share.rows());
      const Tensor residual_share = residual.Rows(share.begin, share.rows());
      if (absl::Status status = AllReduceSum(delta); !status.ok()) return status;
      if (peer == rank()) {
        backend_.AddRmsNorm(residual_share, delta, weight, epsilon,
                            normed.Rows(share.begin, share.rows()));
      } else {
        Fill(residual_share, nans_);
      }
      Fill(shared_.deltas[peer], nans_);
    }
    return AllReduceSum(normed);
  }

 private:
  void Fill(Tensor x, Tensor values) {
    backend_.CopyRows({values.data, x.type, x.rows, x.cols}, x);
  }

  Backend& backend_;
  Tensor zeros_, nans_;
  SharedRows shared_;
  bool asked_ = false;  // since the last sum
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

// On the CPU as without sharing. On GPUs a product of a share's rows may be rounded otherwise than
// one of all rows, so there the same shares are summed by other means.
TEST_P(SharedRowsTest, ATextIsReadAsWithoutThem) {
  const auto& [device, ranks] = GetParam();
  const bool on_gpus = device == "cuda";
  ExecutorGroupOptions options = {.model_path = WriteSharedModel("shared_rows_test"),
                                  .device = device,
                                  .ranks = ranks,
                                  .sessions = 2,
                                  .cascade = kCascade};
  const auto share = [](std::unique_ptr<Communicator> base, Backend& backend) {
    return std::make_unique<SharingCommunicator>(std::move(base), backend);
  };
  if (on_gpus) options.wrap = share;
  const Outcome expected = Read(options);
  std::vector<FusedSums> sums(ranks);
  options.wrap = [&](std::unique_ptr<Communicator> base, Backend& backend) {
    if (!on_gpus) base = share(std::move(base), backend);
    FusedSums* const counts = &sums[base->rank()];
    return std::make_unique<CountingCommunicator>(std::move(base), counts);
  };
  const Outcome actual = Read(options);

  if (on_gpus && sums[0].of_shared_rows == 0) GTEST_SKIP() << "needs GPUs that reach one another";
  // Two sums a layer, of the six chunks that are long enough.
  for (const FusedSums& counts : sums) EXPECT_EQ(counts.of_shared_rows, 6 * 2 * kLayers);
  ASSERT_EQ(expected.scores.size(), 2604u);
  ASSERT_EQ(actual.scores.size(), expected.scores.size());
  for (size_t i = 1; i < expected.scores.size(); ++i) {  // nothing foretells the first
    ASSERT_EQ(actual.scores[i], expected.scores[i]) << "token " << i;
  }
  EXPECT_EQ(actual.tokens, expected.tokens);
}

}  // namespace
}  // namespace weir
