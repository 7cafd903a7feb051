#include "kernels/cuda/decode/likeliest.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/likeliest_merge.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/naive_likeliest.h"

namespace weir {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  int rows;
  int64_t width;
  int32_t tokens;
  int32_t first_token;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.rows << " rows of " << shape.width << ", " << shape.tokens << " tokens from "
             << shape.first_token;
}

int RandomInt(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// How the logits of a row are made.
enum class Kind {
  kNormal,
  kHoles,
  kTies,
  kEqual,
  kAscending,
  kDescending,
  kCrowded,
  kNone,
  kKinds
};

std::vector<float> MakeRow(Kind kind, int tokens, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(tokens);
  for (int i = 0; i < tokens; ++i) {
    switch (kind) {
      case Kind::kNormal:
        row[i] = normal(random);
        break;
      case Kind::kHoles: {
        const int which = RandomInt(random, 0, 9);
        row[i] = which == 0 ? std::nanf("") : which == 1 ? -kInfinity : normal(random);
        break;
      }
      case Kind::kTies:  // and both zeros
        row[i] = RandomInt(random, 0, 1) == 0 ? -0.0f : static_cast<float>(i % 3);
        break;
      case Kind::kEqual:
        row[i] = -2.5f;
        break;
      case Kind::kAscending:
        row[i] = static_cast<float>(i) * 1e-4f - 3;
        break;
      case Kind::kDescending:
        row[i] = 3 - static_cast<float>(i) * 1e-4f;
        break;
      case Kind::kCrowded:  // the likely ones are neighbours
        row[i] = normal(random) + (i / 3000 == 1 ? 20.0f : 0.0f);
        break;
      case Kind::kNone:
      case Kind::kKinds:
        row[i] = std::nanf("");
    }
  }
  return row;
}

// Rows with padding that is likelier than any token.
struct Rows {
  Rows(const Shape& shape, std::mt19937& random) : shape(shape) {
    for (int row = 0; row < shape.rows; ++row) {
      const int kind = RandomInt(random, 0, static_cast<int>(Kind::kKinds) - 1);
      kinds.push_back(kind);
      rows.push_back(MakeRow(static_cast<Kind>(kind), shape.tokens, random));
    }
  }

  std::vector<float> Flat() const {
    std::vector<float> flat;
    for (const std::vector<float>& row : rows) {
      flat.insert(flat.end(), row.begin(), row.end());
      flat.insert(flat.end(), shape.width - shape.tokens, 1e9f);
    }
    return flat;
  }

  Shape shape;
  std::vector<int> kinds;
  std::vector<std::vector<float>> rows;
};

std::vector<LikeliestRequest> MakeRequests(int rows, std::mt19937& random) {
  const int wanted[] = {1, 1, 2, 20, 100, 1000, kMostLikeliest};
  const float inverses[] = {1, 0.01f, 0.7f, 1.4285715f, 20, 1000};
  std::vector<LikeliestRequest> requests(rows);
  for (LikeliestRequest& request : requests) {
    request.seed = uint64_t{random()} << 32 | random();
    request.index = uint64_t{random()} << 20;
    request.inverse_temperature = inverses[RandomInt(random, 0, 5)];
    request.likeliest = wanted[RandomInt(random, 0, 6)];
    request.draw = RandomInt(random, 0, 1) == 0;
    request.target = RandomInt(random, -1, 5100);
  }
  return requests;
}

// Device memory of a reduction, with poisoned outputs and workspace.
class Reduction {
 public:
  explicit Reduction(const Rows& rows)
      : shape_(rows.shape),
        logits_(rows.Flat()),
        summaries_(SummaryLines(kMostLikeliest) * 2 * shape_.rows),
        workspace_(LikeliestWorkspaceBytes(shape_.rows, shape_.width)) {
    Poison();
  }

  void Poison() {
    summaries_.FillBytes(0xff);
    workspace_.FillBytes(0xff);
  }

  DeviceLogits logits() const {
    return {logits_.data(), shape_.rows, shape_.width, shape_.first_token, shape_.tokens};
  }
  void* workspace() const { return workspace_.data(); }
  float* summaries() const { return summaries_.data(); }

  std::vector<float> Run(const std::vector<LikeliestRequest>& requests) {
    const DeviceArray<LikeliestRequest> device_requests(requests);
    Poison();
    CheckCuda(LaunchLikeliest(logits(), device_requests.data(), summaries(), workspace(), nullptr));
    return summaries_.Read();
  }
  std::vector<float> Read() const { return summaries_.Read(); }

 private:
  Shape shape_;
  DeviceArray<float> logits_;
  DeviceArray<float> summaries_;
  DeviceArray<char> workspace_;
};

void ExpectRight(const Rows& rows, const std::vector<LikeliestRequest>& requests,
                 const std::vector<float>& summaries) {
  for (int row = 0; row < rows.shape.rows; ++row) {
    // No more than was asked for is written, so that no poison is read here.
    ASSERT_LE(SummariesOf(summaries.data())[row].likeliest, requests[row].likeliest);
    const LogitsSummary got =
        MergeSummaries(summaries, 1, rows.shape.rows, kMostLikeliest, row, requests[row]);
    ASSERT_EQ(CompareSummary(got, rows.rows[row], rows.shape.first_token, requests[row]), "")
        << rows.shape << "; row " << row << ", kind " << rows.kinds[row] << ", "
        << requests[row].likeliest << " wanted, inverse temperature "
        << requests[row].inverse_temperature << ", draw " << requests[row].draw;
  }
}

constexpr Shape kShapes[] = {
    {1, 1, 1, 0},
    {2, 3, 2, 5},
    {3, 64, 61, 4},
    {3, 267, 250, 6},
    {9, 1021, 1021, 1023},
    {8, 1024, 1024, 2048},
    {8, 4096, 4090, 8},
    {8, 5000, 5000, 2},   // rows that are not aligned
    {8, 5001, 4999, 4},   // nor these
    {16, 8200, 8197, 3},  // one quad makes a group
    {16, 16032, 16032, 48096},
    {8, 49152, 49152, 0},
    {8, 65664, 65660, 0},  // hardly more groups than are wanted
    {8, 128256, 128256, 0},
    {4, 262144, 262141, 3},  // the most
};

TEST(CudaLikeliestTest, SummariesAreRight) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(31);
  for (const Shape& shape : kShapes) {
    for (int trial = 0; trial < 3; ++trial) {
      const Rows rows(shape, random);
      const std::vector<LikeliestRequest> requests = MakeRequests(shape.rows, random);
      ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, Reduction(rows).Run(requests)));
    }
  }
}

// Every kind of row with every wish, in large rows.
TEST(CudaLikeliestTest, AllKindsOfRows) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(32);
  for (const int wanted : {1, 20, kMostLikeliest}) {
    Rows rows({static_cast<int>(Kind::kKinds), 128256, 128256, 0}, random);
    for (int kind = 0; kind < static_cast<int>(Kind::kKinds); ++kind) {
      rows.kinds[kind] = kind;
      rows.rows[kind] = MakeRow(static_cast<Kind>(kind), rows.shape.tokens, random);
    }
    std::vector<LikeliestRequest> requests = MakeRequests(rows.shape.rows, random);
    for (LikeliestRequest& request : requests) {
      request.likeliest = wanted;
      request.draw = true;
    }
    ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, Reduction(rows).Run(requests)));
  }
}

TEST(CudaLikeliestTest, InfinityIsTold) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(33);
  Rows rows({1, 3000, 3000, 0}, random);
  rows.rows[0] = MakeRow(Kind::kNormal, 3000, random);
  rows.rows[0][1234] = kInfinity;
  const std::vector<float> summaries = Reduction(rows).Run({{.likeliest = 30, .draw = true}});
  EXPECT_EQ(SummariesOf(summaries.data())->max, kInfinity);
}

// Whatever the batch, and again and again: the same bits.
TEST(CudaLikeliestTest, ARowDependsOnItselfAlone) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(34);
  const Shape shape = {64, 20000, 19999, 7};
  const Rows rows(shape, random);
  const std::vector<LikeliestRequest> requests = MakeRequests(shape.rows, random);
  Reduction reduction(rows);
  const std::vector<float> together = reduction.Run(requests);
  ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, together));
  for (int repetition = 0; repetition < 5; ++repetition) {
    const std::vector<float> again = reduction.Run(requests);
    ASSERT_EQ(std::memcmp(again.data(), together.data(), again.size() * sizeof(float)), 0);
  }
  for (int row = 0; row < shape.rows; ++row) {
    Rows one = rows;
    one.shape.rows = 1;
    one.rows = {rows.rows[row]};
    const std::vector<float> alone = Reduction(one).Run({requests[row]});
    ASSERT_EQ(std::memcmp(SummariesOf(alone.data()), SummariesOf(together.data()) + row,
                          sizeof(LikeliestSummary)),
              0)
        << "row " << row;
  }
}

// Parts of a vocabulary draw the same token as the whole, by the same value.
TEST(CudaLikeliestTest, PartsAgreeWithTheWhole) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(35);
  const Shape shape = {8, 30000, 30000, 0};
  const Rows rows(shape, random);
  std::vector<LikeliestRequest> requests = MakeRequests(shape.rows, random);
  for (LikeliestRequest& request : requests) request.draw = true;
  const std::vector<float> whole = Reduction(rows).Run(requests);
  std::vector<float> parts;
  int begin = 0;
  for (const int end : {7501, 15000, 15003, 30000}) {
    Rows part = rows;
    part.shape = {shape.rows, end - begin + 5, end - begin, begin};
    for (int row = 0; row < shape.rows; ++row) {
      part.rows[row] = {rows.rows[row].begin() + begin, rows.rows[row].begin() + end};
    }
    const std::vector<float> summaries = Reduction(part).Run(requests);
    parts.insert(parts.end(), summaries.begin(), summaries.end());
    begin = end;
  }
  ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, whole));
  for (int row = 0; row < shape.rows; ++row) {
    const LogitsSummary want =
        MergeSummaries(whole, 1, shape.rows, kMostLikeliest, row, requests[row]);
    const LogitsSummary got =
        MergeSummaries(parts, 4, shape.rows, kMostLikeliest, row, requests[row]);
    EXPECT_EQ(CompareSummary(got, rows.rows[row], 0, requests[row]), "")
        << "row " << row << ", kind " << rows.kinds[row];
    EXPECT_EQ(got.drawn.token, want.drawn.token) << "row " << row << ", kind " << rows.kinds[row];
    EXPECT_EQ(got.drawn_value, want.drawn_value);
  }
}

// A recording follows requests and logits that change between replays.
TEST(CudaLikeliestTest, RunsInAGraph) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(36);
  const Shape shape = {5, 9000, 9000, 0};
  const Rows rows(shape, random);
  Reduction reduction(rows);
  DeviceArray<LikeliestRequest> requests(shape.rows);
  cudaStream_t stream;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const CapturedGraph graph(stream, [&] {
    // Twice, so that a launch follows one that works in the same memory.
    for (int i = 0; i < 2; ++i) {
      CheckCuda(LaunchLikeliest(reduction.logits(), requests.data(), reduction.summaries(),
                                reduction.workspace(), stream));
    }
  });
  for (int replay = 0; replay < 4; ++replay) {
    const std::vector<LikeliestRequest> host = MakeRequests(shape.rows, random);
    reduction.Poison();
    CheckCuda(cudaMemcpy(requests.data(), host.data(), requests.bytes(), cudaMemcpyHostToDevice));
    CheckCuda(cudaDeviceSynchronize());
    graph.Launch(stream);
    CheckCuda(cudaStreamSynchronize(stream));
    ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, host, reduction.Read())) << "replay " << replay;
  }
  CheckCuda(cudaStreamDestroy(stream));
}

// The draws of many indices are distributed as the softmax of the tempered logits.
TEST(CudaLikeliestTest, DrawsHaveTheRightFrequencies) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  constexpr int kTokens = 40;
  constexpr int kRows = 20000;
  std::mt19937 random(37);
  const std::vector<float> logits = MakeRow(Kind::kNormal, kTokens, random);
  Rows rows({1, kTokens, kTokens, 0}, random);
  rows.shape.rows = kRows;
  rows.rows.assign(kRows, logits);
  std::vector<LikeliestRequest> requests(kRows);
  for (int i = 0; i < kRows; ++i) {
    requests[i] = {
        .seed = 5, .index = static_cast<uint64_t>(i), .inverse_temperature = 0.5f, .draw = true};
  }
  const std::vector<float> summaries = Reduction(rows).Run(requests);
  std::vector<double> seen(kTokens);
  for (int i = 0; i < kRows; ++i) {
    const int32_t token = SummariesOf(summaries.data())[i].drawn_token;
    ASSERT_GE(token, 0);
    ASSERT_LT(token, kTokens);
    seen[token] += 1.0 / kRows;
  }
  double sum = 0;
  for (float logit : logits) sum += std::exp(0.5 * logit);
  for (int token = 0; token < kTokens; ++token) {
    const double probability = std::exp(0.5 * logits[token]) / sum;
    EXPECT_NEAR(seen[token], probability, 5 * std::sqrt(probability / kRows) + 5.0 / kRows)
        << "token " << token;
  }
}

TEST(CudaLikeliestTest, Targets) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(38);
  for (const Shape& shape : kShapes) {
    const Rows rows(shape, random);
    std::vector<LikeliestRequest> requests(shape.rows);
    for (LikeliestRequest& request : requests) {
      const int32_t end = shape.first_token + shape.tokens;
      const int32_t some[] = {shape.first_token, end - 1, end, 0, -1};
      const int which = RandomInt(random, 0, 9);
      request.target = which < 5 ? some[which] : RandomInt(random, shape.first_token, end - 1);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, Reduction(rows).Run(requests)));
  }
}

// A rank whose part of the vocabulary is padding only.
TEST(CudaLikeliestTest, WithoutTokens) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(39);
  const Rows rows({2, 100, 0, 500}, random);
  const std::vector<LikeliestRequest> requests = {{.likeliest = 5, .target = 500, .draw = true},
                                                  {}};
  ASSERT_NO_FATAL_FAILURE(ExpectRight(rows, requests, Reduction(rows).Run(requests)));
}

}  // namespace
}  // namespace weir
