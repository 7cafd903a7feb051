#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/naive_likeliest.h"

namespace weir {
namespace {

std::vector<float> RandomLogits(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The choice by the summary that is asked for, made the slow way.
absl::StatusOr<TokenLogit> Choose(const std::vector<float>& logits, const SamplingOptions& options,
                                  int64_t index) {
  const LogitsSummary summary = NaiveSummary(logits, 0, RequestFor(options, index, std::nullopt));
  return ChooseToken(summary, options, index);
}

int32_t ChosenToken(const std::vector<float>& logits, const SamplingOptions& options,
                    int64_t index) {
  const absl::StatusOr<TokenLogit> chosen = Choose(logits, options, index);
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->logit, logits[chosen->token]);
  return chosen->token;
}

// How often each token is chosen.
std::map<int32_t, double> Frequencies(const std::vector<float>& logits, SamplingOptions options,
                                      int draws) {
  std::map<int32_t, double> frequencies;
  for (int i = 0; i < draws; ++i) frequencies[ChosenToken(logits, options, i)] += 1.0 / draws;
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
  EXPECT_EQ(ChosenToken({1, 3, 2, 3}, {}, 0), 1);
  EXPECT_EQ(ChosenToken({std::nanf(""), -5, -4}, {}, 0), 2);
}

TEST(SamplerTest, LogitsThatAreNoNumbersAreAnError) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  for (double temperature : {0.0, 1.0}) {
    const SamplingOptions options = {.temperature = temperature};
    EXPECT_EQ(Choose({nan, nan}, options, 0).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(Choose({infinity, 1}, options, 0).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(Choose({-infinity}, options, 0).status().code(), absl::StatusCode::kInternal);
  }
}

TEST(SamplerTest, AsksForWhatItNeeds) {
  const SamplingOptions greedy = {.seed = 7};
  EXPECT_EQ(RequestFor(greedy, 3, std::nullopt), LikeliestRequest());
  EXPECT_EQ(RequestFor(greedy, 3, 0), LikeliestRequest());
  EXPECT_EQ(RequestFor(greedy, 3, 20), (LikeliestRequest{.likeliest = 20}));
  EXPECT_EQ(RequestFor({.temperature = 1, .top_k = 1, .seed = 7}, 3, 5),
            (LikeliestRequest{.likeliest = 5}));
  EXPECT_EQ(RequestFor({.temperature = 0.5, .seed = 7}, 3, 2),
            (LikeliestRequest{
                .seed = 7, .index = 3, .inverse_temperature = 2, .likeliest = 2, .draw = true}));
  EXPECT_EQ(RequestFor({.temperature = 0.5, .top_k = 9, .seed = 7}, 3, 2),
            (LikeliestRequest{.inverse_temperature = 2, .likeliest = 9}));
  EXPECT_EQ(RequestFor({.temperature = 0.5, .top_k = 9, .top_p = 0.5}, 3, 12),
            (LikeliestRequest{.inverse_temperature = 2, .likeliest = 12}));
  EXPECT_EQ(RequestFor({.temperature = 0.5, .top_p = 0.5}, 3, 12),
            (LikeliestRequest{.inverse_temperature = 2, .likeliest = kMostLikeliest}));
  EXPECT_TRUE(std::isfinite(RequestFor({.temperature = 1e-300}, 3, 12).inverse_temperature));
}

// A nucleus of a vocabulary that is larger than what is looked at.
TEST(SamplerTest, ANucleusIsRelativeToTheWholeVocabulary) {
  std::vector<float> logits(5000, 0.0f);
  logits[4000] = std::log(5000.0f);  // half of the probability, within rounding
  const auto largest = [&](double top_p) {
    int32_t last = 0;
    for (int i = 0; i < 3000; ++i) {
      const int32_t token = ChosenToken(logits, {.temperature = 1, .top_p = top_p, .seed = 2}, i);
      if (token != 4000) last = std::max(last, token);
    }
    return last;
  };
  EXPECT_EQ(largest(0.45), 0);
  const int32_t few = largest(0.51);  // 100 tokens more
  EXPECT_GT(few, 50);
  EXPECT_LE(few, 102);
  const int32_t all = largest(0.99);  // 1024 tokens have 0.6 at most
  EXPECT_GT(all, 900);
  EXPECT_LT(all, kMostLikeliest);
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
    EXPECT_EQ(ChosenToken(logits, {.temperature = 1, .top_p = 1e-12}, i),
              ChosenToken(logits, {}, i));
    EXPECT_EQ(ChosenToken(logits, {.temperature = 1e-9}, i), ChosenToken(logits, {}, i));
  }
}

TEST(SamplerTest, LogprobsAreUntempered) {
  const std::vector<float> logits = RandomLogits(1000, 10);
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit});
  const LogitsSummary summary = NaiveSummary(logits, 0, RequestFor({.temperature = 2}, 0, 20));
  const Logprobs logprobs = ComputeLogprobs(summary, logits[17], 20);
  EXPECT_NEAR(logprobs.token, logits[17] - std::log(sum), 1e-5);
  ASSERT_EQ(logprobs.top.size(), 20u);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(logits[logprobs.top[i].token], sorted[i]);
    EXPECT_NEAR(logprobs.top[i].logprob, sorted[i] - std::log(sum), 1e-5);
  }
  EXPECT_TRUE(ComputeLogprobs(summary, logits[0], 0).top.empty());
  EXPECT_EQ(ComputeLogprobs(NaiveSummary({1, 2}, 0, RequestFor({}, 0, 20)), 1, 20).top.size(), 2u);
}

}  // namespace
}  // namespace weir
