#include "worker/engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "worker/engine/philox.h"

namespace weir {
namespace {

// The known answers that come with the authors' Random123 library.
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformRandomDependsOnSeedAndIndex) {
  std::set<double> seen;
  double sum = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    for (uint64_t index = 0; index < 100; ++index) {
      const double value = UniformRandom(seed << 28, index << 28);
      ASSERT_GE(value, 0);
      ASSERT_LT(value, 1);
      seen.insert(value);
      sum += value;
    }
  }
  EXPECT_EQ(seen.size(), 4000u);
  EXPECT_NEAR(sum / 4000, 0.5, 0.02);
}

std::vector<float> RandomLogits(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// How often each token is chosen.
std::map<int32_t, double> Frequencies(const std::vector<float>& logits, SamplingOptions options,
                                      int draws) {
  std::map<int32_t, double> frequencies;
  for (int i = 0; i < draws; ++i) frequencies[*SampleToken(logits, options, i)] += 1.0 / draws;
  return frequencies;
}

// The distribution that the options ask for, the slow way.
std::map<int32_t, double> Expected(const std::vector<float>& logits, SamplingOptions options) {
  std::vector<std::pair<double, int32_t>> ranked;
  for (size_t i = 0; i < logits.size(); ++i) {
    ranked.emplace_back(-std::exp(logits[i] / options.temperature), i);
  }
  std::sort(ranked.begin(), ranked.end());
  if (options.top_k > 0) ranked.resize(std::min<size_t>(ranked.size(), options.top_k));
  double sum = 0;
  for (const auto& [weight, token] : ranked) sum -= weight;
  double mass = 0;
  size_t kept = 0;
  while (kept < ranked.size() && mass < options.top_p * sum) mass -= ranked[kept++].first;
  ranked.resize(kept);
  std::map<int32_t, double> expected;
  for (const auto& [weight, token] : ranked) expected[token] = -weight / mass;
  return expected;
}

TEST(SamplerTest, GreedyTakesTheLowestOfTheLikeliest) {
  EXPECT_EQ(*SampleToken({1, 3, 2, 3}, {}, 0), 1);
  EXPECT_EQ(*SampleToken({std::nanf(""), -5, -4}, {}, 0), 2);
}

TEST(SamplerTest, LogitsThatAreNoNumbersAreAnError) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  for (double temperature : {0.0, 1.0}) {
    const SamplingOptions options = {.temperature = temperature};
    EXPECT_EQ(SampleToken({nan, nan}, options, 0).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(SampleToken({infinity, 1}, options, 0).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(SampleToken({-infinity}, options, 0).status().code(), absl::StatusCode::kInternal);
  }
}

TEST(SamplerTest, FrequenciesAreThoseAskedFor) {
  const SamplingOptions cases[] = {
      {.temperature = 1, .seed = 1},
      {.temperature = 0.5, .seed = 2},
      {.temperature = 2, .top_k = 7, .seed = 3},
      {.temperature = 1, .top_p = 0.8, .seed = 4},
      {.temperature = 1.5, .top_k = 100, .top_p = 0.95, .seed = 5},  // more than one sorted block
      {.temperature = 100, .top_k = 1000, .top_p = 0.999, .seed = 6},
  };
  for (const SamplingOptions& options : cases) {
    const std::vector<float> logits = RandomLogits(150, options.seed);
    const std::map<int32_t, double> expected = Expected(logits, options);
    const int draws = 40000;
    const std::map<int32_t, double> seen = Frequencies(logits, options, draws);
    for (const auto& [token, frequency] : seen) {
      EXPECT_TRUE(expected.contains(token)) << token << ", seed " << options.seed;
    }
    for (const auto& [token, probability] : expected) {
      const auto found = seen.find(token);
      const double frequency = found == seen.end() ? 0 : found->second;
      // Five standard deviations, and what a rare token may do.
      EXPECT_NEAR(frequency, probability, 5 * std::sqrt(probability / draws) + 5.0 / draws)
          << token << ", seed " << options.seed;
    }
  }
}

TEST(SamplerTest, ATinyNucleusIsTheLikeliestToken) {
  const std::vector<float> logits = RandomLogits(100, 9);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(*SampleToken(logits, {.temperature = 1, .top_p = 1e-12}, i),
              *SampleToken(logits, {}, i));
    EXPECT_EQ(*SampleToken(logits, {.temperature = 1e-9}, i), *SampleToken(logits, {}, i));
  }
}

TEST(SamplerTest, LogprobsAreUntempered) {
  const std::vector<float> logits = RandomLogits(1000, 10);
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit});
  const Logprobs logprobs = ComputeLogprobs(logits, 17, 20);
  EXPECT_NEAR(logprobs.token, logits[17] - std::log(sum), 1e-5);
  ASSERT_EQ(logprobs.top.size(), 20u);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(logits[logprobs.top[i].token], sorted[i]);
    EXPECT_NEAR(logprobs.top[i].logprob, sorted[i] - std::log(sum), 1e-5);
  }
  EXPECT_TRUE(ComputeLogprobs(logits, 0, 0).top.empty());
  EXPECT_EQ(ComputeLogprobs({1, 2}, 0, 20).top.size(), 2u);
}

}  // namespace
}  // namespace weir
