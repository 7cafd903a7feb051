#include "kernels/cuda/prefill/chunk_attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/prefill/chunk_attention_sm90.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

struct Shape {
  int head_dim;
  int query_heads;
  int kv_heads;
  int cached;
  int rows;
  double beta;
  double spread = 1.0;  // of queries, so of the scores
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "head_dim " << s.head_dim << ", heads " << s.query_heads << "/" << s.kv_heads
             << ", cached " << s.cached << ", rows " << s.rows << ", beta " << s.beta;
}

// Inputs as they lie in a real step: the cache has more slots than are filled, queries and values
// of the chunk are parts of wider rows. What must not be read is NaN.
struct Problem {
  explicit Problem(const Shape& shape) : shape(shape) {
    std::mt19937 random(shape.cached * 31 + shape.rows);
    const auto normals = [&](int64_t count, double spread) {
      std::normal_distribution<float> normal(0.0f, static_cast<float>(spread));
      std::vector<__nv_bfloat16> values(count);
      for (__nv_bfloat16& value : values) value = __float2bfloat16(normal(random));
      return values;
    };
    const int d = shape.head_dim;
    slots = shape.cached + 40;
    row_stride = int64_t{shape.query_heads + 2 * shape.kv_heads} * d;
    cached_keys = normals(int64_t{shape.kv_heads} * slots * d, 1.0);
    cached_values = normals(int64_t{shape.kv_heads} * slots * d, 1.0);
    for (int head = 0; head < shape.kv_heads; ++head) {
      for (int64_t i = int64_t{shape.cached} * d; i < int64_t{slots} * d; ++i) {
        cached_keys[int64_t{head} * slots * d + i] = __float2bfloat16(NAN);
        cached_values[int64_t{head} * slots * d + i] = __float2bfloat16(NAN);
      }
    }
    qkv = normals(shape.rows * row_stride, 1.0);
    for (int row = 0; row < shape.rows; ++row) {
      for (int i = 0; i < shape.query_heads * d; ++i) {
        __nv_bfloat16& value = qkv[row * row_stride + i];
        value = __float2bfloat16(static_cast<float>(__bfloat162float(value) * shape.spread));
      }
    }
  }

  int keys() const { return shape.cached + shape.rows; }
  int KvHead(int head) const { return head / (shape.query_heads / shape.kv_heads); }
  const __nv_bfloat16* Query(int row, int head) const {
    return &qkv[row * row_stride + head * shape.head_dim];
  }
  const __nv_bfloat16* Key(int key, int kv_head) const {
    if (key < shape.cached) return &cached_keys[(int64_t{kv_head} * slots + key) * shape.head_dim];
    return &qkv[(key - shape.cached) * row_stride + (shape.query_heads + kv_head) * shape.head_dim];
  }
  const __nv_bfloat16* Value(int key, int kv_head) const {
    if (key < shape.cached) {
      return &cached_values[(int64_t{kv_head} * slots + key) * shape.head_dim];
    }
    return &qkv[(key - shape.cached) * row_stride +
                (shape.query_heads + shape.kv_heads + kv_head) * shape.head_dim];
  }

  Shape shape;
  int slots;
  int64_t row_stride;
  std::vector<__nv_bfloat16> cached_keys, cached_values, qkv;
};

struct Result {
  std::vector<double> out;               // [rows][query_heads * head_dim]
  std::vector<double> log2_normalizers;  // [query_heads][rows]
  std::vector<double> column_sums;       // [query_heads][cached + rows]
};

PrefillSchedule Schedule(const Shape& shape) {
  return SchedulePrefill({shape.rows, shape.cached, shape.query_heads, shape.kv_heads}, 132);
}

// For every row and query head the last tile of own keys that its item visits: [rows][query_heads].
std::vector<int> LastOwnTiles(const Shape& shape) {
  const int group = shape.query_heads / shape.kv_heads;
  std::vector<int> tiles(shape.rows * shape.query_heads, -1);
  for (const PrefillItem& item : Schedule(shape).items) {
    const int last_row_block = item.first_row_block + item.row_blocks - 1;
    for (int block = item.first_row_block; block <= last_row_block; ++block) {
      const int head = item.kv_head * group + block % group;
      for (int row = block / group * 64; row < std::min(block / group * 64 + 64, shape.rows);
           ++row) {
        EXPECT_EQ(tiles[row * shape.query_heads + head], -1) << "scheduled twice";
        tiles[row * shape.query_heads + head] = last_row_block / group * 64 / 128;
      }
    }
  }
  return tiles;
}

// In which of its steps the fast kernel shows a row a key. An item shares its steps: tiles of 128
// keys, from the last own tile downwards, but the first cached tile second, and the other cached
// tiles last.
int StepOf(const Problem& problem, int last_own_tile, int key) {
  const int cached = problem.shape.cached;
  if (key < cached) return key < 128 ? 1 : 1 + last_own_tile + key / 128;
  const int tile = (key - cached) / 128;
  return last_own_tile - tile + (tile < last_own_tile && cached > 0 ? 1 : 0);
}

// In double precision, one row at a time. If `running`, column sums use the sum of the keys of all
// steps so far instead of the sum over all keys.
Result Reference(const Problem& problem, bool running) {
  const Shape& shape = problem.shape;
  const int d = shape.head_dim;
  const std::vector<int> last_own_tiles = LastOwnTiles(shape);
  Result result;
  result.out.assign(int64_t{shape.rows} * shape.query_heads * d, 0.0);
  result.log2_normalizers.assign(int64_t{shape.query_heads} * shape.rows, 0.0);
  result.column_sums.assign(int64_t{shape.query_heads} * problem.keys(), 0.0);
  for (int head = 0; head < shape.query_heads; ++head) {
    const int kv_head = problem.KvHead(head);
    for (int row = 0; row < shape.rows; ++row) {
      const int last_own_tile = last_own_tiles[row * shape.query_heads + head];
      const int seen = shape.cached + row + 1;
      std::vector<double> scores(seen);
      for (int key = 0; key < seen; ++key) {
        double dot = 0.0;
        for (int i = 0; i < d; ++i) {
          dot += double{__bfloat162float(problem.Query(row, head)[i])} *
                 double{__bfloat162float(problem.Key(key, kv_head)[i])};
        }
        scores[key] = dot / std::sqrt(static_cast<double>(d));
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      std::vector<double> visited(problem.keys() / 128 + 4, 0.0);
      double total = 0.0;
      for (int key = 0; key < seen; ++key) {
        scores[key] = std::exp(scores[key] - largest);
        total += scores[key];
        visited[StepOf(problem, last_own_tile, key)] += scores[key];
      }
      for (size_t i = 1; i < visited.size(); ++i) visited[i] += visited[i - 1];
      const double weight = std::pow(shape.beta, shape.rows - 1 - row);
      double* out = &result.out[(int64_t{row} * shape.query_heads + head) * d];
      for (int key = 0; key < seen; ++key) {
        const __nv_bfloat16* value = problem.Value(key, kv_head);
        for (int i = 0; i < d; ++i) out[i] += scores[key] / total * __bfloat162float(value[i]);
        result.column_sums[int64_t{head} * problem.keys() + key] +=
            weight * scores[key] / (running ? visited[StepOf(problem, last_own_tile, key)] : total);
      }
      result.log2_normalizers[int64_t{head} * shape.rows + row] =
          (largest + std::log(total)) / std::log(2.0);
    }
  }
  return result;
}

// The largest norm of each tile of keys [first, first + count).
std::vector<float> KeyNorms(const Problem& problem, int first, int count) {
  const int tiles = (count + kNormTile - 1) / kNormTile;
  std::vector<float> norms(int64_t{problem.shape.kv_heads} * tiles, 0.0f);
  for (int head = 0; head < problem.shape.kv_heads; ++head) {
    for (int key = 0; key < count; ++key) {
      double sum = 0.0;
      for (int i = 0; i < problem.shape.head_dim; ++i) {
        const double value = __bfloat162float(problem.Key(first + key, head)[i]);
        sum += value * value;
      }
      float& norm = norms[head * tiles + key / kNormTile];
      norm = std::max(norm, static_cast<float>(std::sqrt(sum)));
    }
  }
  return norms;
}

enum class Kernel { kPortable, kHopperPlain, kHopperFast, kHopperExact };

Result Compute(const Problem& problem, Kernel kernel) {
  const Shape& shape = problem.shape;
  const int d = shape.head_dim;
  const DeviceArray<__nv_bfloat16> cached_keys(problem.cached_keys);
  const DeviceArray<__nv_bfloat16> cached_values(problem.cached_values);
  const DeviceArray<__nv_bfloat16> qkv(problem.qkv);
  const DeviceArray<float> cached_key_norms(KeyNorms(problem, 0, shape.cached));
  const DeviceArray<float> own_key_norms(KeyNorms(problem, shape.cached, shape.rows));
  DeviceArray<__nv_bfloat16> out(int64_t{shape.rows} * shape.query_heads * d);
  DeviceArray<float> log2_normalizers(int64_t{shape.query_heads} * shape.rows);
  DeviceArray<unsigned long long> column_sums(int64_t{shape.query_heads} * problem.keys());
  out.FillBytes(0xff);  // NaN
  log2_normalizers.FillBytes(0xff);
  column_sums.FillBytes(0);
  const ChunkAttention attention = {
      .query_heads = shape.query_heads,
      .kv_heads = shape.kv_heads,
      .head_dim = d,
      .rows = shape.rows,
      .cached = shape.cached,
      .log2_beta = static_cast<float>(std::log2(shape.beta)),
      .queries = {qkv.data(), problem.row_stride, d},
      .cached_keys = {cached_keys.data(), d, int64_t{problem.slots} * d},
      .cached_values = {cached_values.data(), d, int64_t{problem.slots} * d},
      .own_keys = {qkv.data() + shape.query_heads * d, problem.row_stride, d},
      .own_values = {qkv.data() + (shape.query_heads + shape.kv_heads) * d, problem.row_stride, d},
      .cached_key_norms = cached_key_norms.data(),
      .own_key_norms = own_key_norms.data(),
      .out = out.data(),
      .out_stride = int64_t{shape.query_heads} * d,
      .log2_normalizers = log2_normalizers.data(),
      .column_sums = column_sums.data(),
  };
  if (kernel == Kernel::kPortable) {
    CheckCuda(LaunchPortableChunkAttention(attention, nullptr));
  } else {
    const PrefillSchedule schedule = Schedule(shape);
    const DeviceArray<PrefillItem> items(schedule.items);
    const DeviceArray<int> first_item(schedule.first_item);
    CheckCuda(LaunchHopperChunkAttention(
        attention,
        {items.data(), first_item.data(), static_cast<int>(schedule.first_item.size()) - 1},
        kernel == Kernel::kHopperPlain  ? ColumnSumMode::kNone
        : kernel == Kernel::kHopperFast ? ColumnSumMode::kFast
                                        : ColumnSumMode::kExact,
        nullptr));
    CheckCuda(cudaDeviceSynchronize());
  }
  Result result;
  for (const __nv_bfloat16 value : out.Read()) result.out.push_back(__bfloat162float(value));
  for (const float value : log2_normalizers.Read()) result.log2_normalizers.push_back(value);
  for (const unsigned long long value : column_sums.Read()) {
    result.column_sums.push_back(std::ldexp(static_cast<double>(value), -kColumnSumBits));
  }
  return result;
}

double RelativeError(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

// The largest relative error of any column sum that matters.
double WorstColumn(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] > 1e-4) worst = std::max(worst, std::abs(got[i] / want[i] - 1.0));
  }
  return worst;
}

class ChunkAttentionTest : public testing::TestWithParam<Shape> {};

TEST_P(ChunkAttentionTest, PortableMatchesReference) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  const Problem problem(GetParam());
  const Result want = Reference(problem, false);
  const Result got = Compute(problem, Kernel::kPortable);
  EXPECT_LT(RelativeError(got.out, want.out), 4e-3);  // rounding of the output
  EXPECT_LT(RelativeError(got.log2_normalizers, want.log2_normalizers), 1e-5);
  EXPECT_LT(RelativeError(got.column_sums, want.column_sums), 1e-5);
  EXPECT_LT(WorstColumn(got.column_sums, want.column_sums), 1e-3);
}

TEST_P(ChunkAttentionTest, HopperFastMatchesReference) {
  if (!HasGpu(90)) GTEST_SKIP() << "needs a Hopper GPU";
  const Problem problem(GetParam());
  const Result want = Reference(problem, true);
  const Result got = Compute(problem, Kernel::kHopperFast);
  EXPECT_LT(RelativeError(got.out, want.out), 6e-3);
  EXPECT_LT(RelativeError(got.log2_normalizers, want.log2_normalizers), 1e-5);
  EXPECT_LT(RelativeError(got.column_sums, want.column_sums), 5e-3);
  EXPECT_LT(WorstColumn(got.column_sums, want.column_sums), 0.03);
  const Result again = Compute(problem, Kernel::kHopperFast);
  EXPECT_EQ(got.out, again.out);
  EXPECT_EQ(got.column_sums, again.column_sums);
}

TEST_P(ChunkAttentionTest, HopperExactMatchesReference) {
  if (!HasGpu(90)) GTEST_SKIP() << "needs a Hopper GPU";
  const Problem problem(GetParam());
  const Result want = Reference(problem, false);
  const Result got = Compute(problem, Kernel::kHopperExact);
  EXPECT_LT(RelativeError(got.out, want.out), 6e-3);
  EXPECT_LT(RelativeError(got.log2_normalizers, want.log2_normalizers), 1e-5);
  EXPECT_LT(RelativeError(got.column_sums, want.column_sums), 1e-4);
  EXPECT_LT(WorstColumn(got.column_sums, want.column_sums), 1e-3);
  const Result again = Compute(problem, Kernel::kHopperExact);
  EXPECT_EQ(got.column_sums, again.column_sums);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ChunkAttentionTest,
    testing::Values(Shape{128, 1, 1, 0, 1, 0.9}, Shape{128, 4, 2, 0, 130, 0.999},
                    Shape{128, 3, 1, 1, 64, 1.0}, Shape{128, 8, 2, 700, 300, 0.9999999},
                    Shape{128, 2, 2, 128, 128, 0.5}, Shape{128, 5, 1, 1000, 77, 0.99, 6.0},
                    Shape{128, 2, 1, 257, 385, 0.0}, Shape{64, 1, 1, 0, 1, 0.9},
                    Shape{64, 9, 3, 500, 200, 0.9999999}, Shape{64, 4, 4, 129, 257, 0.99, 6.0},
                    Shape{64, 2, 1, 0, 400, 0.999}, Shape{128, 4, 1, 900, 200, 0.99, 30.0}));

}  // namespace
}  // namespace weir
