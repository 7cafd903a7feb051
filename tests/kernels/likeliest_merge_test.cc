#include "kernels/likeliest_merge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/naive_likeliest.h"

namespace weir {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Writes the summary of a part of a row as the device does.
void WritePart(const std::vector<float>& logits, int32_t first_token,
               const LikeliestRequest& request, int row, int rows, float* tensor) {
  const LogitsSummary part = NaiveSummary(logits, first_token, request);
  SummariesOf(tensor)[row] = {.max = part.max,
                              .sum = static_cast<float>(part.sum),
                              .tempered_sum = static_cast<float>(part.tempered_sum),
                              .likeliest = static_cast<int32_t>(part.likeliest.size()),
                              .drawn_value = part.drawn_value,
                              .drawn_logit = part.drawn.logit,
                              .drawn_token = part.drawn.token,
                              .target_logit = part.target_logit};
  for (size_t rank = 0; rank < part.likeliest.size(); ++rank) {
    LikeliestOf(tensor, rows)[rank * rows + row] = part.likeliest[rank];
  }
}

TEST(LikeliestMergeTest, PartsMakeTheWhole) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 300; ++trial) {
    const int rows = 1 + static_cast<int>(random() % 3);
    const int parts = 1 + static_cast<int>(random() % 5);
    const int most = 1 + static_cast<int>(random() % 20);
    const int values = random() % 2 == 0 ? 5 : 1000;  // few: many ties
    const int64_t part_size = SummaryLines(most) * 2 * rows;
    std::vector<float> tensors(parts * part_size, std::nanf(""));
    std::vector<std::vector<float>> whole(rows);
    std::vector<LikeliestRequest> requests(rows);
    for (LikeliestRequest& request : requests) {
      request.seed = random();
      request.index = random();
      request.inverse_temperature = 0.25f * (1 + random() % 8);
      request.likeliest = 1 + static_cast<int>(random() % most);
      request.draw = random() % 2 == 0;
      request.target = static_cast<int32_t>(random() % 60) - 1;
    }
    int32_t first_token = 0;
    for (int part = 0; part < parts; ++part) {
      const int width = 1 + static_cast<int>(random() % 30);
      for (int row = 0; row < rows; ++row) {
        std::vector<float> logits(width);
        for (float& logit : logits) {
          logit = static_cast<float>(random() % values) * 10 / values;
          if (random() % 10 == 0) logit = std::nanf("");
          if (random() % 10 == 0) logit = -kInfinity;
        }
        if (random() % 5 == 0) std::fill(logits.begin(), logits.end(), std::nanf(""));
        WritePart(logits, first_token, requests[row], row, rows, tensors.data() + part * part_size);
        whole[row].insert(whole[row].end(), logits.begin(), logits.end());
      }
      first_token += width;
    }
    for (int row = 0; row < rows; ++row) {
      const LogitsSummary merged = MergeSummaries(tensors, parts, rows, most, row, requests[row]);
      EXPECT_EQ(CompareSummary(merged, whole[row], 0, requests[row]), "") << "trial " << trial;
    }
  }
}

TEST(LikeliestMergeTest, LogProbabilitiesIgnoreTheTemperature) {
  const std::vector<float> logits = {1, 3, -kInfinity, 2};
  const LogitsSummary summary = NaiveSummary(logits, 0, {.inverse_temperature = 5});
  const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
  for (float logit : logits) {
    if (std::isinf(logit)) continue;
    EXPECT_NEAR(summary.LogProbability(logit), logit - std::log(sum), 1e-6);
  }
  EXPECT_EQ(summary.LogProbability(-kInfinity), -kInfinity);
}

}  // namespace
}  // namespace weir
