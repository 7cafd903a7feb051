#include "kernels/cuda/prefill/chunk_preparation.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kRotations = 700;

std::vector<__nv_bfloat16> Normals(std::mt19937& random, int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<__nv_bfloat16> values(count);
  for (__nv_bfloat16& value : values) value = __float2bfloat16(normal(random));
  return values;
}

double Angle(int rotation, int i, int head_dim) {
  return rotation * std::pow(10000.0, -2.0 * i / head_dim);
}

class RopeTables {
 public:
  explicit RopeTables(int head_dim)
      : cos_(Make(head_dim, [](double x) { return std::cos(x); })),
        sin_(Make(head_dim, [](double x) { return std::sin(x); })) {}
  DeviceRope view() const { return {cos_.data(), sin_.data()}; }

 private:
  template <typename Function>
  static std::vector<float> Make(int head_dim, Function function) {
    std::vector<float> table;
    for (int rotation = 0; rotation < kRotations; ++rotation) {
      for (int i = 0; i < head_dim / 2; ++i) {
        table.push_back(static_cast<float>(function(Angle(rotation, i, head_dim))));
      }
    }
    return table;
  }

  DeviceArray<float> cos_, sin_;
};

// `got` is `from` turned by `rotation`; returns the norm.
double ExpectTurned(const __nv_bfloat16* got, const __nv_bfloat16* from, int rotation,
                    int head_dim) {
  const int half = head_dim / 2;
  double squares = 0.0;
  for (int i = 0; i < half; ++i) {
    const double angle = Angle(rotation, i, head_dim);
    const double a = __bfloat162float(from[i]);
    const double b = __bfloat162float(from[half + i]);
    EXPECT_NEAR(__bfloat162float(got[i]), a * std::cos(angle) - b * std::sin(angle), 0.02);
    EXPECT_NEAR(__bfloat162float(got[half + i]), b * std::cos(angle) + a * std::sin(angle), 0.02);
    squares += a * a + b * b;
  }
  return std::sqrt(squares);
}

TEST(ChunkPreparationTest, RotatesRows) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(3);
  for (const int head_dim : {64, 128}) {
    const RopeTables rope(head_dim);
    const int rows = 300, query_heads = 6, kv_heads = 2, tiles = 3;
    const int64_t stride = int64_t{query_heads + 2 * kv_heads} * head_dim;
    const int64_t rotated_stride = int64_t{query_heads + kv_heads} * head_dim;
    const std::vector<__nv_bfloat16> qkv = Normals(random, rows * stride);
    const DeviceArray<__nv_bfloat16> device_qkv(qkv);
    DeviceArray<__nv_bfloat16> device_rotated(rows * rotated_stride);
    DeviceArray<float> device_norms(kv_heads * tiles);
    device_rotated.FillBytes(0xff);
    device_norms.FillBytes(0xff);
    CheckCuda(LaunchRotateRows({rows, query_heads, kv_heads, head_dim, device_qkv.data(), stride,
                                device_rotated.data(), device_norms.data()},
                               rope.view(), nullptr));
    const std::vector<__nv_bfloat16> rotated = device_rotated.Read();
    std::vector<double> norms(kv_heads * tiles, 0.0);
    for (int row = 0; row < rows; ++row) {
      for (int head = 0; head < query_heads + kv_heads; ++head) {
        const double norm = ExpectTurned(&rotated[row * rotated_stride + head * head_dim],
                                         &qkv[row * stride + head * head_dim], row, head_dim);
        if (head < query_heads) continue;
        double& largest = norms[(head - query_heads) * tiles + row / kNormTile];
        largest = std::max(largest, norm);
      }
    }
    const std::vector<float> got = device_norms.Read();
    for (size_t i = 0; i < norms.size(); ++i) EXPECT_NEAR(got[i], norms[i], 0.01 * norms[i]);
  }
}

TEST(ChunkPreparationTest, TurnsSegmentsBack) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(4);
  const int head_dim = 128, kv_heads = 3, slots = 500, cached = 450, tiles = 4;
  const RopeTables rope(head_dim);
  const std::vector<__nv_bfloat16> keys = Normals(random, int64_t{kv_heads} * slots * head_dim);
  const DeviceArray<__nv_bfloat16> device_keys(keys);
  DeviceArray<__nv_bfloat16> device_rotated(int64_t{kv_heads} * cached * head_dim);
  DeviceArray<float> device_norms(kv_heads * tiles);
  device_rotated.FillBytes(0xff);
  device_norms.FillBytes(0xff);
  CachedKeys work = {};
  work.cached = cached;
  work.kv_heads = kv_heads;
  work.head_dim = head_dim;
  work.keys = device_keys.data();
  work.head_stride = int64_t{slots} * head_dim;
  work.rotated = device_rotated.data();
  work.key_norms = device_norms.data();
  // In age order, as a step has them.
  for (const KeySegment& segment : {KeySegment{0, 10, 640}, KeySegment{300, 150, 20},
                                    KeySegment{130, 170, 400}, KeySegment{10, 120, 333}}) {
    work.segments[work.segment_count++] = segment;
  }
  CheckCuda(LaunchRotateCachedKeys(work, rope.view(), nullptr));
  const std::vector<__nv_bfloat16> rotated = device_rotated.Read();
  const std::vector<float> norms = device_norms.Read();
  for (int head = 0; head < kv_heads; ++head) {
    std::vector<double> want(tiles, 0.0);
    for (int slot = 0; slot < cached; ++slot) {
      const int rotation = slot < 10 ? 640 : slot < 130 ? 333 : slot < 300 ? 400 : 20;
      const double norm =
          ExpectTurned(&rotated[(int64_t{head} * cached + slot) * head_dim],
                       &keys[(int64_t{head} * slots + slot) * head_dim], -rotation, head_dim);
      want[slot / kNormTile] = std::max(want[slot / kNormTile], norm);
    }
    for (int tile = 0; tile < tiles; ++tile) {
      EXPECT_NEAR(norms[head * tiles + tile], want[tile], 0.01 * want[tile]);
    }
  }
}

TEST(ChunkPreparationTest, ColumnSumsBecomeScores) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(5);
  const int rows = 130, cached = 400, query_heads = 6, kv_heads = 2, slots = 420, stride = 150;
  const int group = query_heads / kv_heads, keys = cached + rows;
  const double decay = std::pow(0.999, rows);
  std::uniform_real_distribution<double> uniform(0.0, 50.0);
  std::vector<unsigned long long> sums(query_heads * keys);
  for (unsigned long long& sum : sums) {
    sum = static_cast<unsigned long long>(std::ldexp(uniform(random), kColumnSumBits));
  }
  std::vector<float> scores(kv_heads * slots);
  for (float& score : scores) score = static_cast<float>(uniform(random));
  for (const HeadReduction reduction : {HeadReduction::kMax, HeadReduction::kMean}) {
    const DeviceArray<unsigned long long> device_sums(sums);
    const DeviceArray<float> device_scores(scores);
    DeviceArray<float> device_row_scores(kv_heads * stride);
    device_row_scores.FillBytes(0xff);
    CheckCuda(LaunchScoreUpdate(
        {rows, cached, query_heads, kv_heads, reduction, decay, device_sums.data(),
         device_scores.data(), slots, device_row_scores.data(), stride},
        nullptr));
    const std::vector<float> got = device_scores.Read();
    const std::vector<float> got_rows = device_row_scores.Read();
    for (int head = 0; head < kv_heads; ++head) {
      for (int key = 0; key < slots + rows; ++key) {
        if (key >= cached && key < slots) {
          EXPECT_EQ(got[head * slots + key], scores[head * slots + key]) << "not filled";
          continue;
        }
        const int column = key < cached ? key : key - slots + cached;
        double largest = 0.0, sum = 0.0;
        for (int i = 0; i < group; ++i) {
          const double value = std::ldexp(
              static_cast<double>(sums[(head * group + i) * keys + column]), -kColumnSumBits);
          largest = std::max(largest, value);
          sum += value;
        }
        const double reduced = reduction == HeadReduction::kMax ? largest : sum / group;
        if (key < cached) {
          EXPECT_FLOAT_EQ(got[head * slots + key],
                          static_cast<float>(decay * scores[head * slots + key] + reduced));
        } else {
          EXPECT_FLOAT_EQ(got_rows[head * stride + key - slots], static_cast<float>(reduced));
        }
      }
    }
  }
}

}  // namespace
}  // namespace weir
