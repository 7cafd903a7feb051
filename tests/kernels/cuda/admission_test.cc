// Admission on the device, with scores that often tie, against the cascade told one token at a
// time.

#include "kernels/cuda/prefill/admission.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/testing/naive_cascade.h"

namespace weir {
namespace {

constexpr double kRopeBase = 10000.0;

struct Session {
  CascadeConfig cascade;
  int kv_heads;
  int head_dim;
};

// A layer's cache on the device, and the tables and scratch that admission needs.
class DeviceCache {
 public:
  explicit DeviceCache(const Session& session)
      : session_(session),
        slots_(session.cascade.total_slots()),
        keys_(Size() * session.head_dim),
        values_(Size() * session.head_dim),
        scores_(Size()),
        tokens_(Size()),
        swaps_(session.cascade.sub_caches),
        sources_(static_cast<size_t>(session.kv_heads) * (session.cascade.sub_caches + 1) *
                 (session.cascade.stride + 1)),
        arrivals_(static_cast<size_t>(session.kv_heads) * 2 * session.cascade.stride),
        cos_(Table([](double angle) { return std::cos(angle); })),
        sin_(Table([](double angle) { return std::sin(angle); })) {
    keys_.FillBytes(0xff);
    values_.FillBytes(0xff);
    scores_.FillBytes(0xff);
    tokens_.FillBytes(0xff);
    swaps_.FillBytes(0);
  }

  // kv: [rows][2][kv_heads][head_dim], keys then values. scores: [kv_heads][rows].
  void Admit(const SequenceStep& step, const std::vector<__nv_bfloat16>& kv,
             const std::vector<float>& scores) {
    const PackedAdmission packed = PackAdmission(step);
    const DeviceArray<int> runs(packed.runs);
    const DeviceArray<__nv_bfloat16> device_kv(kv);
    const DeviceArray<float> device_scores(scores);
    const int64_t width = int64_t{session_.kv_heads} * session_.head_dim;
    ASSERT_LE(static_cast<size_t>(session_.kv_heads) * packed.step.moves, sources_.size());
    CheckCuda(LaunchAdmission(
        packed.step,
        {session_.kv_heads, session_.head_dim, slots_, keys_.data(), values_.data(), scores_.data(),
         tokens_.data()},
        {device_kv.data(), device_kv.data() + width, 2 * width, device_scores.data(), step.rows},
        {cos_.data(), sin_.data()}, {runs.data(), sources_.data(), arrivals_.data(), swaps_.data()},
        nullptr));
    CheckCuda(cudaDeviceSynchronize());
  }

  std::vector<__nv_bfloat16> keys() const { return keys_.Read(); }
  std::vector<__nv_bfloat16> values() const { return values_.Read(); }
  std::vector<float> scores() const { return scores_.Read(); }
  std::vector<int64_t> tokens() const { return tokens_.Read(); }
  int slots() const { return slots_; }

 private:
  size_t Size() const { return static_cast<size_t>(session_.kv_heads) * slots_; }

  template <typename Function>
  std::vector<float> Table(Function function) const {
    const int half = session_.head_dim / 2;
    std::vector<float> table;
    for (int rotation = 0; rotation < session_.cascade.total_slots() + 1; ++rotation) {
      for (int i = 0; i < half; ++i) {
        table.push_back(static_cast<float>(
            function(rotation * std::pow(kRopeBase, -static_cast<double>(i) / half))));
      }
    }
    return table;
  }

  Session session_;
  int slots_;
  DeviceArray<__nv_bfloat16> keys_, values_;
  DeviceArray<float> scores_;
  DeviceArray<int64_t> tokens_;
  DeviceArray<unsigned long long> swaps_;
  DeviceArray<int> sources_;
  DeviceArray<AdmissionArrival> arrivals_;
  DeviceArray<float> cos_, sin_;
};

int RandomInt(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// Element `i` of a key or value of a token, at random but known.
float Element(int64_t token, int head, int i, int which) {
  std::minstd_rand random(static_cast<unsigned>(token * 7919 + head * 131 + i * 17 + which + 1));
  random.discard(2);
  return __bfloat162float(__float2bfloat16(static_cast<float>(random() % 2000) / 1000.0f - 1.0f));
}

void RunSession(const Session& session, std::mt19937& random, int steps) {
  DeviceCache device(session);
  KvCache plan(0, session.cascade);
  std::vector<NaiveCascade> heads(session.kv_heads,
                                  NaiveCascade({.sinks = session.cascade.sinks,
                                                .slots = session.cascade.slots,
                                                .sub_caches = session.cascade.sub_caches}));
  for (int step_index = 0; step_index < steps; ++step_index) {
    const int rows = RandomInt(random, 1, session.cascade.stride);
    const SequenceStep step = plan.Plan(0, rows);
    std::vector<float> scores(session.kv_heads * rows);
    for (float& score : scores) score = static_cast<float>(RandomInt(random, 0, 3));
    std::vector<__nv_bfloat16> kv;
    for (int row = 0; row < rows; ++row) {
      for (int which = 0; which < 2; ++which) {
        for (int head = 0; head < session.kv_heads; ++head) {
          for (int i = 0; i < session.head_dim; ++i) {
            kv.push_back(__float2bfloat16(Element(step.first_token + row, head, i, which)));
          }
        }
      }
    }
    device.Admit(step, kv, scores);
    plan.Commit(step);
    for (int head = 0; head < session.kv_heads; ++head) {
      for (int row = 0; row < rows; ++row) {
        heads[head].Admit({.index = step.first_token + row, .score = scores[head * rows + row]});
      }
    }
  }

  const std::vector<int64_t> tokens = device.tokens();
  const std::vector<float> scores = device.scores();
  const std::vector<__nv_bfloat16> keys = device.keys();
  const std::vector<__nv_bfloat16> values = device.values();
  const std::vector<LiveSlot> live = plan.LiveSlots();
  const int half = session.head_dim / 2;
  for (int head = 0; head < session.kv_heads; ++head) {
    const std::vector<NaiveCachedToken*> want = heads[head].ByPosition();
    ASSERT_EQ(live.size(), want.size());
    for (size_t position = 0; position < live.size(); ++position) {
      const int slot = live[position].slot;
      const size_t at = static_cast<size_t>(head) * device.slots() + slot;
      ASSERT_EQ(tokens[at], want[position]->index) << "position " << position;
      ASSERT_EQ(scores[at], static_cast<float>(want[position]->score));
      const int rotation = live[position].sub_cache == LiveSlot::kSink
                               ? slot
                               : (slot - session.cascade.sinks) % session.cascade.ring_slots();
      for (int i = 0; i < half; ++i) {
        const double angle = rotation * std::pow(kRopeBase, -static_cast<double>(i) / half);
        const double a = Element(tokens[at], head, i, 0);
        const double b = Element(tokens[at], head, half + i, 0);
        const __nv_bfloat16* key = &keys[at * session.head_dim];
        // Each change of rings rounds once more.
        const double tolerance = 0.01 * (1 + session.cascade.sub_caches);
        ASSERT_NEAR(__bfloat162float(key[i]), a * std::cos(angle) - b * std::sin(angle), tolerance);
        ASSERT_NEAR(__bfloat162float(key[half + i]), b * std::cos(angle) + a * std::sin(angle),
                    tolerance);
      }
      for (int i = 0; i < session.head_dim; ++i) {
        ASSERT_EQ(__bfloat162float(values[at * session.head_dim + i]),
                  Element(tokens[at], head, i, 1));
      }
    }
  }
}

TEST(CudaAdmissionTest, KeepsWhatTheCascadeKeeps) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(21);
  for (int trial = 0; trial < 100; ++trial) {
    Session session;
    session.cascade.sub_caches = RandomInt(random, 1, 5);
    session.cascade.slots = session.cascade.sub_caches * RandomInt(random, 1, 9);
    session.cascade.sinks = RandomInt(random, 0, 5);
    session.cascade.stride = RandomInt(random, 1, 60);
    session.kv_heads = RandomInt(random, 1, 3);
    session.head_dim = RandomInt(random, 0, 1) == 0 ? 64 : 128;
    SCOPED_TRACE(testing::Message() << "trial " << trial);
    RunSession(session, random, RandomInt(random, 1, 10));
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(CudaAdmissionTest, LargeChunks) {
  if (!HasGpu(80)) GTEST_SKIP() << "needs a GPU";
  std::mt19937 random(22);
  Session session;
  session.cascade.sinks = 64;
  session.cascade.slots = 4 * 700;
  session.cascade.sub_caches = 4;
  session.cascade.stride = 2500;
  session.kv_heads = 2;
  session.head_dim = 64;
  RunSession(session, random, 8);
}

}  // namespace
}  // namespace weir
