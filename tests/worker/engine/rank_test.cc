// Loading a rank and starting its engine: what is refused, and why.

#include "worker/engine/rank.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/engine/engine_fixture.h"
#include "tests/worker/engine/small_engine.h"
#include "worker/comm/communicator.h"

namespace weir {
namespace {

TEST(RankTest, ASizeThatDoesNotDivideTheModelIsToldWithThoseThatDo) {
  RankOptions options = SmallOptions(4);
  const absl::Status status = Rank::Load(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "tensor-parallel size 4 does not divide the model's 6 KV heads, 12 query heads and "
            "feed-forward width 96; possible: 1, 2, 3, 6");
  options.tensor_parallel = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RankTest, WrongOptionsAreNamed) {
  RankOptions options = SmallOptions();
  options.engine.cascade.stride = 4096;
  EXPECT_EQ(Rank::Load(options).status().message(),
            "sinks + slots + stride is 4 + 24 + 4096 = 4124; the model has 4096 positions");
  options = SmallOptions();
  options.engine.max_sessions = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = SmallOptions();
  options.engine.max_runs = 0;
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = SmallOptions();
  options.device = "abacus";
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = SmallOptions();
  options.model_path = "/nowhere.gguf";
  EXPECT_EQ(Rank::Load(options).status().code(), absl::StatusCode::kNotFound);
}

// A communicator of one rank that does not let it prepare its steps.
class UnableCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  absl::Status AllReduceSum(Tensor) override { return absl::OkStatus(); }
  absl::Status AllGather(Tensor, Tensor) override { return absl::OkStatus(); }
  absl::Status Broadcast(std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    return std::vector<std::string>{bytes};
  }
  absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t, int64_t) override {
    return absl::ResourceExhaustedError("no memory is left");
  }
  absl::Status Poll() override { return group; }
  void Abort() override {}

  absl::Status group;
};

TEST(RankTest, TellsWhyItCouldNotJoin) {
  const std::unique_ptr<Rank> rank = *Rank::Load(SmallOptions());
  UnableCommunicator communicator;
  {
    const std::unique_ptr<Engine> engine = *rank->StartEngine(&communicator);
    EXPECT_EQ(engine->WaitUntilJoined(), absl::ResourceExhaustedError("no memory is left"));
    EXPECT_EQ(engine->Wait(), absl::UnavailableError("no memory is left"));
  }
  // Not if that came of the group's end.
  communicator.group = absl::UnavailableError("rank 1 is lost");
  const std::unique_ptr<Engine> engine = *rank->StartEngine(&communicator);
  EXPECT_EQ(engine->WaitUntilJoined(), communicator.group);
}

TEST(RankTest, JoinsByItself) {
  TestGroup group(SmallOptions());
  EXPECT_TRUE(group.leader().WaitUntilJoined().ok());
}

}  // namespace
}  // namespace weir
