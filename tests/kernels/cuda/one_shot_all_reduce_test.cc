// Ranks are streams here: on one GPU all of them, and with several GPUs also one on each.

#include "kernels/cuda/peers/one_shot_all_reduce.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/peers/rank_order_sum.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/one_shot_group.h"
#include "tests/kernels/cuda/rank_devices.h"
#include "tests/kernels/cuda/rank_tensors.h"

namespace weir {
namespace {

// Elements of the largest calls. Ranks on one GPU wait for one another, so all their blocks must
// find room there at once; a block of 256 threads takes 8 bytes a thread.
int64_t MostElements(const std::vector<int>& devices, ElementType type) {
  const bool shared = devices.size() > 2 && devices[0] == devices[1];
  const int64_t blocks = 128 / static_cast<int64_t>(devices.size());
  return (shared ? blocks * 256 * 8 : kOneShotMostBytes) / ElementBytes(type);
}

// One call of all ranks, and the memory it works in: at `offset` of every rank's input and output.
struct PlannedCall {
  bool gather = false;
  ElementType type = ElementType::kFloat32;
  int64_t elements = 0;
  int64_t offset = 0;
  std::vector<Bytes> inputs;  // by rank

  int64_t bytes() const { return elements * ElementBytes(type); }
  int64_t out_bytes() const { return gather ? bytes() * inputs.size() : bytes(); }
};

// Calls one after the other, in memory of their own, with room around each.
class Plan {
 public:
  explicit Plan(const std::vector<int>& devices) : devices_(devices) {}

  void Add(std::mt19937& random, bool gather, ElementType type, int64_t elements) {
    PlannedCall call{.gather = gather, .type = type, .elements = elements};
    // Mostly off the 8 bytes in which kernels would like to move things.
    call.offset = end_ + ElementBytes(type) * (random() % 8);
    for (size_t rank = 0; rank < devices_.size(); ++rank) {
      call.inputs.push_back(RandomTensor(random, type, elements));
    }
    end_ = (call.offset + call.out_bytes() + 31) / 16 * 16;
    calls_.push_back(std::move(call));
  }

  const std::vector<PlannedCall>& calls() const { return calls_; }

  // Inputs of sums lie where the sums will be.
  void Upload() {
    for (size_t rank = 0; rank < devices_.size(); ++rank) {
      in_.push_back(std::make_unique<RankMemory>(devices_[rank], end_));
      out_.push_back(std::make_unique<RankMemory>(devices_[rank], end_));
      in_[rank]->Fill(0xff);
      out_[rank]->Fill(0xff);
      for (const PlannedCall& call : calls_) {
        (call.gather ? in_ : out_)[rank]->Write(call.offset, call.inputs[rank]);
      }
    }
  }

  void Launch(const OneShotGroup& group, int rank, const PlannedCall& call) const {
    const OneShotRanks ranks = group.Enter(rank);
    uint8_t* const out = out_[rank]->data() + call.offset;
    CheckCuda(call.gather
                  ? LaunchOneShotGather(ranks, in_[rank]->data() + call.offset, call.type,
                                        call.elements, out, group.stream(rank))
                  : LaunchOneShotSum(ranks, out, call.type, call.elements, group.stream(rank)));
  }

  // What `call` left on `rank`.
  Bytes Read(int rank, const PlannedCall& call) const {
    return out_[rank]->Read(call.offset, call.out_bytes());
  }

  void Check() const {
    for (size_t i = 0; i < calls_.size(); ++i) {
      const PlannedCall& call = calls_[i];
      Bytes want;
      if (call.gather) {
        for (const Bytes& input : call.inputs) want.insert(want.end(), input.begin(), input.end());
      } else {
        std::string wrong;
        want = SumInOrder(call.inputs, call.type, &wrong);
        ASSERT_EQ(wrong, "");
      }
      for (size_t rank = 0; rank < devices_.size(); ++rank) {
        ASSERT_EQ(FirstDifference(Read(rank, call), want, call.type), "")
            << "call " << i << ", " << (call.gather ? "gather" : "sum") << " of " << call.elements
            << " elements of " << ElementBytes(call.type) << " bytes, rank " << rank;
        const int64_t end = call.offset + call.out_bytes();
        const int64_t next = i + 1 < calls_.size() ? calls_[i + 1].offset : end_;
        ASSERT_EQ(out_[rank]->Read(end, next - end), Bytes(next - end, 0xff))
            << "behind call " << i << ", rank " << rank;
      }
    }
  }

 private:
  std::vector<int> devices_;
  int64_t end_ = 0;
  std::vector<PlannedCall> calls_;
  std::vector<std::unique_ptr<RankMemory>> in_, out_;
};

TEST(OneShotAllReduceTest, SumsAndGathersEveryLength) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    SCOPED_TRACE(Describe(devices));
    std::mt19937 random(1);
    Plan plan(devices);
    for (const ElementType type : {ElementType::kBFloat16, ElementType::kFloat32}) {
      const int64_t most = MostElements(devices, type);
      for (const int64_t elements :
           {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{511}, int64_t{512},
            int64_t{513}, int64_t{1023}, int64_t{1025}, int64_t{4096}, int64_t{5 * 4096},
            most / 2 + 1, most - 1, most}) {
        for (const bool gather : {false, true}) plan.Add(random, gather, type, elements);
      }
    }
    plan.Upload();
    OneShotGroup group(devices);
    for (const PlannedCall& call : plan.calls()) {
      for (int rank = 0; rank < group.size(); ++rank) plan.Launch(group, rank, call);
      ASSERT_TRUE(group.Finish()) << "a call of " << call.elements << " elements does not end";
    }
    plan.Check();
  }
}

// Nothing is waited for, one rank after the other gets all its calls: every rank runs ahead of
// those behind it as far as it can. Lengths change from call to call, and with them who has which
// packet.
TEST(OneShotAllReduceTest, RanksThatRunAheadDoNotOverwriteWhatIsStillRead) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    for (const bool ascending : {true, false}) {
      SCOPED_TRACE(Describe(devices));
      std::mt19937 random(2);
      Plan plan(devices);
      for (int call = 0; call < 300; ++call) {
        const ElementType type = random() % 2 == 0 ? ElementType::kBFloat16 : ElementType::kFloat32;
        const int64_t most = MostElements(devices, type) >> random() % 9;
        plan.Add(random, random() % 3 == 0, type, 1 + random() % most);
      }
      plan.Upload();
      OneShotGroup group(devices);
      for (int i = 0; i < group.size(); ++i) {
        const int rank = ascending ? i : group.size() - 1 - i;
        for (const PlannedCall& call : plan.calls()) plan.Launch(group, rank, call);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      ASSERT_TRUE(group.Finish());
      plan.Check();
    }
  }
}

TEST(OneShotAllReduceTest, AGraphThatIsReplayedGivesTheSameBitsOnAllRanks) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  constexpr int kCalls = 16;
  constexpr int kReplays = 1000;
  const ElementType type = ElementType::kBFloat16;
  for (const std::vector<int>& devices : RankDevices(kOneShotMostRanks)) {
    SCOPED_TRACE(Describe(devices));
    // A row, three rows, a lone element, a batch.
    const std::vector<int64_t> lengths = {4096, 3 * 4096, 1, MostElements(devices, type)};
    std::mt19937 random(3);
    OneShotGroup group(devices);
    std::vector<std::vector<Bytes>> inputs(kCalls);  // by call, by rank
    std::vector<std::unique_ptr<RankMemory>> in, out;
    const int64_t room = lengths.back() * ElementBytes(type);
    std::vector<std::unique_ptr<CapturedGraph>> graphs;
    for (int rank = 0; rank < group.size(); ++rank) {
      in.push_back(std::make_unique<RankMemory>(devices[rank], kCalls * room));
      out.push_back(std::make_unique<RankMemory>(devices[rank], kCalls * room));
      out.back()->Fill(0xff);
      for (int call = 0; call < kCalls; ++call) {
        inputs[call].push_back(RandomTensor(random, type, lengths[call % lengths.size()]));
        in[rank]->Write(call * room, inputs[call][rank]);
      }
      const OneShotRanks ranks = group.Enter(rank);
      const cudaStream_t stream = group.stream(rank);
      graphs.push_back(std::make_unique<CapturedGraph>(stream, [&] {
        for (int call = 0; call < kCalls; ++call) {
          const int64_t elements = lengths[call % lengths.size()];
          uint8_t* const sum = out[rank]->data() + call * room;
          // The sum of one rank is a copy.
          CheckCuda(
              LaunchRankOrderSum(in[rank]->data() + call * room, 1, type, elements, sum, stream));
          CheckCuda(LaunchOneShotSum(ranks, sum, type, elements, stream));
        }
      }));
    }
    std::vector<Bytes> want;
    for (int call = 0; call < kCalls; ++call) {
      std::string wrong;
      want.push_back(SumInOrder(inputs[call], type, &wrong));
      ASSERT_EQ(wrong, "");
    }
    for (int replay = 1; replay <= kReplays; ++replay) {
      for (int rank = 0; rank < group.size(); ++rank) {
        group.Enter(rank);
        graphs[rank]->Launch(group.stream(rank));
      }
      if (replay % 50 != 0) continue;
      ASSERT_TRUE(group.Finish()) << "in replay " << replay;
      for (int call = 0; call < kCalls; ++call) {
        for (int rank = 0; rank < group.size(); ++rank) {
          const int64_t bytes = static_cast<int64_t>(want[call].size());
          ASSERT_EQ(FirstDifference(out[rank]->Read(call * room, bytes), want[call], type), "")
              << "replay " << replay << ", call " << call << ", rank " << rank;
        }
      }
      for (int rank = 0; rank < group.size(); ++rank) out[rank]->Fill(0xff);
    }
  }
}

TEST(OneShotAllReduceTest, AbortEndsWaitsAndMisleadsNobody) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const std::vector<int> devices = {0, 0, 0};
  std::mt19937 random(4);
  Plan plan(devices);
  for (int call = 0; call < 64; ++call) {
    plan.Add(random, call % 5 == 1, ElementType::kBFloat16, 8192);
  }
  plan.Upload();
  OneShotGroup group(devices);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); };
  for (const int rank : {0, 2}) {
    for (const PlannedCall& call : plan.calls()) plan.Launch(group, rank, call);
  }
  pause();
  EXPECT_FALSE(group.Idle(0) || group.Idle(2)) << "nobody waited for rank 1";
  const auto start = std::chrono::steady_clock::now();
  group.Abort(0);
  group.Abort(2);
  ASSERT_TRUE(group.Finish(std::chrono::seconds(20)));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("128 kernels ended %.6f s after the abort\n", took.count());
  EXPECT_LT(took.count(), 1.0);

  // Of the first call rank 1 still gets what it should, of later ones nothing.
  for (const PlannedCall& call : plan.calls()) plan.Launch(group, 1, call);
  pause();
  EXPECT_FALSE(group.Idle(1)) << "ranks that gave up have sent more";
  group.Abort(1);
  ASSERT_TRUE(group.Finish(std::chrono::seconds(20)));
  const PlannedCall& first = plan.calls()[0];
  std::string wrong;
  EXPECT_EQ(FirstDifference(plan.Read(1, first), SumInOrder(first.inputs, first.type, &wrong),
                            first.type),
            "");
}

}  // namespace
}  // namespace weir
