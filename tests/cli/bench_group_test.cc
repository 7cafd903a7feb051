#include "cli/bench_group.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/small_config.h"

namespace weir {
namespace {

RankOptions SmallRanks(int ranks) {
  RankOptions options;
  options.model_path = testing::TempDir() + "/config.json";
  WriteConfig(options.model_path);
  options.load_format = "dummy";
  options.tensor_parallel = ranks;
  options.engine.cascade = {.sinks = 4, .slots = 64, .sub_caches = 2, .stride = 16};
  return options;
}

TEST(BenchGroupTest, ExplainsWhyTheGroupIsOver) {
  absl::StatusOr<std::unique_ptr<BenchGroup>> group = BenchGroup::Load(SmallRanks(2));
  ASSERT_TRUE(group.ok()) << group.status();
  ASSERT_TRUE((*group)->Start().ok());
  EXPECT_EQ((*group)->size(), 2);
  EXPECT_EQ((*group)->session_bytes(), 2 * (*group)->leader().session_bytes());

  const absl::Status own = absl::InvalidArgumentError("no such session");
  EXPECT_EQ((*group)->Explain(own), own) << "while the group is well";

  (*group)->engine().Abort("a GPU was lost");
  (*group)->engine().Wait().IgnoreError();
  const absl::Status why = (*group)->Explain(absl::UnavailableError("a call failed"));
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(why.message()),
              testing::MatchesRegex("rank 0: a GPU was lost; rank 1: .*aborted by rank 0"));
}

TEST(BenchGroupTest, FailsToLoadAsOneRankDoes) {
  const absl::Status refused = BenchGroup::Load(SmallRanks(3)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              testing::HasSubstr("tensor-parallel size 3 does not divide"));
}

TEST(BenchGroupTest, CanBeLoadedWithoutBeingStarted) {
  for (int ranks : {1, 2}) EXPECT_TRUE(BenchGroup::Load(SmallRanks(ranks)).ok()) << ranks;
}

}  // namespace
}  // namespace weir
