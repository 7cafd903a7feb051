// What every host communicator promises, for each of them and several sizes.

#include "worker/comm/communicator.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/in_memory_rendezvous.h"
#include "worker/comm/in_process_group.h"
#include "worker/comm/single_communicator.h"

namespace weir {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

using Communicators = std::vector<std::unique_ptr<Communicator>>;

// So long that a test that needs it to pass would be stopped first.
constexpr absl::Duration kNever = absl::Hours(1);

Communicators MakeSingle(int, absl::Duration) {
  Communicators one;
  one.push_back(MakeSingleCommunicator());
  return one;
}

Communicators MakeGloo(int size, absl::Duration timeout) {
  Communicators communicators(size);
  InMemoryRendezvous rendezvous;
  RunRanks(size, [&](int rank) {
    auto communicator =
        ConnectGlooCommunicator({.rank = rank, .size = size, .timeout = timeout}, rendezvous);
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    communicators[rank] = *std::move(communicator);
  });
  return communicators;
}

struct Kind {
  std::string name;
  std::function<Communicators(int size, absl::Duration timeout)> make;
};

Tensor Float32(std::vector<float>& values, int64_t rows, int64_t cols) {
  EXPECT_EQ(static_cast<int64_t>(values.size()), rows * cols);
  return {values.data(), ElementType::kFloat32, rows, cols};
}

std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random) * std::exp2f(random() % 16);
  return values;
}

class CommunicatorTest : public ::testing::TestWithParam<std::tuple<Kind, int>> {
 protected:
  int size() const { return std::get<1>(GetParam()); }
  Communicators Make(absl::Duration timeout = kNever) const {
    return std::get<0>(GetParam()).make(size(), timeout);
  }
};

TEST_P(CommunicatorTest, RanksAreNumbered) {
  const Communicators communicators = Make();
  ASSERT_EQ(static_cast<int>(communicators.size()), size());
  for (int rank = 0; rank < size(); ++rank) {
    EXPECT_EQ(communicators[rank]->rank(), rank);
    EXPECT_EQ(communicators[rank]->size(), size());
  }
}

TEST_P(CommunicatorTest, AllReduceSumsInRankOrderOnEveryRank) {
  const Communicators communicators = Make();
  // Below, at and above what fits one exchange or one message, and shares of unequal length.
  for (const int64_t count : {0, 1, 2, 3, 5, 576, 4095, 4096, 4097, 16384, 20000, 147456, 200001}) {
    SCOPED_TRACE(absl::StrCat(count, " floats"));
    std::vector<std::vector<float>> inputs;
    for (int rank = 0; rank < size(); ++rank) inputs.push_back(RandomFloats(count, 31 * rank + 1));
    std::vector<float> in_rank_order = inputs[0];
    for (int rank = 1; rank < size(); ++rank) {
      for (int64_t i = 0; i < count; ++i) in_rank_order[i] += inputs[rank][i];
    }
    for (int64_t i = 0; i < count; ++i) {
      double sum = 0;
      double magnitude = 0;
      for (int rank = 0; rank < size(); ++rank) {
        sum += inputs[rank][i];
        magnitude += std::abs(inputs[rank][i]);
      }
      ASSERT_NEAR(in_rank_order[i], sum, 1e-6 * magnitude);
    }
    std::vector<std::vector<float>> outputs = inputs;
    RunRanks(size(), [&](int rank) {
      const absl::Status status =
          communicators[rank]->AllReduceSum(Float32(outputs[rank], count, 1));
      ASSERT_TRUE(status.ok()) << status;
    });
    for (int rank = 0; rank < size(); ++rank) {
      ASSERT_EQ(std::memcmp(outputs[rank].data(), in_rank_order.data(), count * sizeof(float)), 0)
          << "rank " << rank;
    }
  }
}

TEST_P(CommunicatorTest, AllGatherPutsTheRanksOneAfterTheOther) {
  const Communicators communicators = Make();
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 7}, {1, 16384}, {2, 16385}, {0, 4}}) {
    SCOPED_TRACE(absl::StrCat(rows, " x ", cols));
    std::vector<std::vector<float>> inputs;
    std::vector<float> expected;
    for (int rank = 0; rank < size(); ++rank) {
      inputs.push_back(RandomFloats(rows * cols, 17 * rank + 3));
      expected.insert(expected.end(), inputs[rank].begin(), inputs[rank].end());
    }
    RunRanks(size(), [&, rows = rows, cols = cols](int rank) {
      std::vector<float> output(expected.size(), -1);
      const absl::Status status = communicators[rank]->AllGather(
          Float32(inputs[rank], rows, cols), Float32(output, size() * rows, cols));
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(output, expected) << "rank " << rank;
    });
  }
}

TEST_P(CommunicatorTest, AllGatherTakesBFloat16) {
  const Communicators communicators = Make();
  RunRanks(size(), [&](int rank) {
    std::vector<uint16_t> input(33, static_cast<uint16_t>(rank + 1));
    std::vector<uint16_t> output(size() * 33);
    const absl::Status status =
        communicators[rank]->AllGather({input.data(), ElementType::kBFloat16, 1, 33},
                                       {output.data(), ElementType::kBFloat16, size(), 33});
    ASSERT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < output.size(); ++i) ASSERT_EQ(output[i], i / 33 + 1);
  });
}

TEST_P(CommunicatorTest, BroadcastGivesTheBytesOfRankZero) {
  const Communicators communicators = Make();
  // Around the length that fits one message with its prefix, and around two.
  for (const size_t length : {0, 1, 1000, 65527, 65528, 65529, 131063, 131064, 131065, 1000000}) {
    SCOPED_TRACE(absl::StrCat(length, " bytes"));
    std::string expected(length, '\0');
    std::mt19937 random(length);
    for (char& byte : expected) byte = static_cast<char>(random());
    RunRanks(size(), [&](int rank) {
      std::string bytes = rank == 0 ? expected : std::string(rank * 5, 'x');
      const absl::Status status = communicators[rank]->Broadcast(bytes);
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_TRUE(bytes == expected) << "rank " << rank;
    });
  }
}

TEST_P(CommunicatorTest, GatherBringsBytesOfAnyLengthToRankZero) {
  const Communicators communicators = Make();
  const auto bytes_of = [](int rank) {
    return std::string(rank == 2 ? 0 : 70000 * rank + 3, static_cast<char>('a' + rank));
  };
  RunRanks(size(), [&](int rank) {
    const auto gathered = communicators[rank]->Gather(bytes_of(rank));
    ASSERT_TRUE(gathered.ok()) << gathered.status();
    if (rank != 0) {
      ASSERT_TRUE(gathered->empty());
      return;
    }
    ASSERT_EQ(static_cast<int>(gathered->size()), size());
    for (int peer = 0; peer < size(); ++peer) ASSERT_EQ((*gathered)[peer], bytes_of(peer));
  });
}

TEST_P(CommunicatorTest, CallsKeepTheirOrder) {
  const Communicators communicators = Make();
  RunRanks(size(), [&](int rank) {
    std::mt19937 same_on_all_ranks(5);
    for (int call = 0; call < 300; ++call) {
      const float value = static_cast<float>(call + 1);
      switch (same_on_all_ranks() % 4) {
        case 0: {
          std::vector<float> x(same_on_all_ranks() % 9000, value);
          ASSERT_TRUE(communicators[rank]->AllReduceSum(Float32(x, x.size(), 1)).ok());
          for (const float element : x) ASSERT_EQ(element, value * size());
          break;
        }
        case 1: {
          std::string bytes = rank == 0 ? std::string(call * 50, 'b') : "";
          ASSERT_TRUE(communicators[rank]->Broadcast(bytes).ok());
          ASSERT_EQ(bytes.size(), call * 50u);
          break;
        }
        case 2: {
          std::vector<float> x = {value + rank};
          std::vector<float> out(size());
          ASSERT_TRUE(
              communicators[rank]->AllGather(Float32(x, 1, 1), Float32(out, size(), 1)).ok());
          for (int peer = 0; peer < size(); ++peer) ASSERT_EQ(out[peer], value + peer);
          break;
        }
        default: {
          const auto gathered = communicators[rank]->Gather(absl::StrCat(call, " ", rank));
          ASSERT_TRUE(gathered.ok());
          for (size_t peer = 0; peer < gathered->size(); ++peer) {
            ASSERT_EQ((*gathered)[peer], absl::StrCat(call, " ", peer));
          }
        }
      }
    }
  });
}

TEST_P(CommunicatorTest, AfterAbortEveryCallFails) {
  const Communicators communicators = Make();
  communicators[0]->Abort();
  std::vector<float> x(3);
  std::vector<float> out(3 * size());
  std::string bytes = "x";
  EXPECT_EQ(communicators[0]->AllReduceSum(Float32(x, 3, 1)).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(communicators[0]->AllGather(Float32(x, 3, 1), Float32(out, 3 * size(), 1)).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(communicators[0]->Broadcast(bytes).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(communicators[0]->Gather(bytes).status().code(), absl::StatusCode::kCancelled);
}

TEST_P(CommunicatorTest, PollTellsWhetherTheGroupIsWell) {
  const Communicators communicators = Make();
  RunRanks(size(), [&](int rank) {
    // Before, between and after calls, whatever is on its way.
    for (int call = 0; call < 50; ++call) {
      const absl::Status well = communicators[rank]->Poll();
      ASSERT_TRUE(well.ok()) << well;
      std::string bytes = "x";
      ASSERT_TRUE(communicators[rank]->Broadcast(bytes).ok());
    }
  });
  communicators[0]->Abort();
  EXPECT_EQ(communicators[0]->Poll().code(), absl::StatusCode::kCancelled);
}

std::string TestName(const ::testing::TestParamInfo<std::tuple<Kind, int>>& info) {
  return absl::StrCat(std::get<0>(info.param).name, std::get<1>(info.param));
}

const Kind kSingle{"Single", MakeSingle};
const Kind kInProcess{"InProcess", MakeInProcessGroup};
const Kind kGloo{"Gloo", MakeGloo};

INSTANTIATE_TEST_SUITE_P(One, CommunicatorTest,
                         ::testing::Combine(::testing::Values(kSingle), ::testing::Values(1)),
                         TestName);
INSTANTIATE_TEST_SUITE_P(Host, CommunicatorTest,
                         ::testing::Combine(::testing::Values(kInProcess, kGloo),
                                            ::testing::Values(1, 2, 3, 4)),
                         TestName);

// What happens when ranks go, in groups of more than one.
class CommunicatorFailureTest : public CommunicatorTest {};

TEST_P(CommunicatorFailureTest, AbortFromAnotherThreadEndsABlockedCall) {
  const Communicators communicators = Make();
  // Rank 0 never comes. Every other rank is blocked, or about to be.
  RunRanks(size(), [&](int rank) {
    if (rank == 0) return;
    absl::Notification called;
    std::thread aborting([&] {
      called.WaitForNotification();
      communicators[rank]->Abort();
    });
    std::vector<float> x(576);
    called.Notify();
    const absl::Status status = communicators[rank]->AllReduceSum(Float32(x, 576, 1));
    aborting.join();
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kCancelled, absl::StatusCode::kUnavailable));
    EXPECT_FALSE(communicators[rank]->AllReduceSum(Float32(x, 576, 1)).ok());
  });
}

TEST_P(CommunicatorFailureTest, AbortOfOneRankEndsTheCallsOfAll) {
  const Communicators communicators = Make();
  RunRanks(size(), [&](int rank) {
    if (rank == 0) {
      communicators[0]->Abort();
      return;
    }
    std::string bytes;
    EXPECT_THAT(communicators[rank]->Broadcast(bytes).code(),
                AnyOf(absl::StatusCode::kCancelled, absl::StatusCode::kUnavailable));
    EXPECT_FALSE(communicators[rank]->Broadcast(bytes).ok());
  });
}

TEST_P(CommunicatorFailureTest, ARankThatLeavesMakesTheOthersUnavailable) {
  Communicators communicators = Make();
  const int leaver = size() - 1;
  RunRanks(size(), [&](int rank) {
    std::vector<float> x(20000);
    ASSERT_TRUE(communicators[rank]->AllReduceSum(Float32(x, 20000, 1)).ok());
    if (rank == leaver) {
      communicators[rank].reset();
      return;
    }
    const absl::Status lost = communicators[rank]->AllReduceSum(Float32(x, 20000, 1));
    EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(lost.message()), HasSubstr("rank "));
    EXPECT_EQ(communicators[rank]->AllReduceSum(Float32(x, 20000, 1)), lost);
  });
}

TEST_P(CommunicatorFailureTest, PollSeesThatARankHasLeft) {
  Communicators communicators = Make();
  communicators[0].reset();
  for (int rank = 1; rank < size(); ++rank) {
    // The end of a connection takes a moment to arrive.
    absl::Status lost;
    for (int look = 0; look < 1000 && lost.ok(); ++look) {
      lost = communicators[rank]->Poll();
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(lost.message()), HasSubstr("rank 0"));
    std::string bytes;
    EXPECT_EQ(communicators[rank]->Broadcast(bytes), lost);
  }
}

TEST_P(CommunicatorFailureTest, ASilentRankIsNamedAfterTheTimeout) {
  const Communicators communicators = Make(absl::Milliseconds(300));
  // Rank 0 says nothing and stays: only the clock can tell.
  RunRanks(size(), [&](int rank) {
    if (rank == 0) return;
    std::vector<float> x(10);
    const absl::Status lost = communicators[rank]->AllReduceSum(Float32(x, 10, 1));
    EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(lost.message()), HasSubstr("rank "));
    if (size() == 2) {
      EXPECT_THAT(std::string(lost.message()), HasSubstr("rank 0"));
      EXPECT_THAT(std::string(lost.message()), HasSubstr("300ms"));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Host, CommunicatorFailureTest,
                         ::testing::Combine(::testing::Values(kInProcess, kGloo),
                                            ::testing::Values(2, 3, 4)),
                         TestName);

}  // namespace
}  // namespace weir
