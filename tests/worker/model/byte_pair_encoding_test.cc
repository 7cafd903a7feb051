#include "worker/model/byte_pair_encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace weir {
namespace {

using testing::ElementsAre;

// Byte pair encoding as it is told: look all pairs over, merge the best, start again.
class NaiveEncoding {
 public:
  void AddMerge(int32_t left, int32_t right, int32_t merged) {
    merges_.emplace(std::pair(left, right), std::pair(static_cast<int>(merges_.size()), merged));
  }
  std::vector<int32_t> Encode(std::vector<int32_t> tokens) const {
    while (true) {
      int best_rank = 1 << 30;
      size_t best = 0;
      int32_t merged = 0;
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        const auto found = merges_.find({tokens[i], tokens[i + 1]});
        if (found == merges_.end() || found->second.first >= best_rank) continue;
        best_rank = found->second.first;
        merged = found->second.second;
        best = i;
      }
      if (best_rank == 1 << 30) return tokens;
      tokens[best] = merged;
      tokens.erase(tokens.begin() + static_cast<int64_t>(best) + 1);
    }
  }

 private:
  std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> merges_;
};

TEST(BytePairEncodingTest, EqualsTheNaiveEncodingOnRandomMerges) {
  std::mt19937 random(17);
  for (int trial = 0; trial < 300; ++trial) {
    constexpr int kLetters = 3;
    BytePairEncoding encoding;
    NaiveEncoding naive;
    std::vector<std::string> vocabulary;
    std::set<std::string> known;
    for (int i = 0; i < kLetters; ++i) {
      vocabulary.push_back(std::string(1, static_cast<char>('a' + i)));
      known.insert(vocabulary.back());
      encoding.SetByteToken(static_cast<uint8_t>('a' + i), i);
    }
    for (int i = 0; i < 20; ++i) {
      const int32_t left = static_cast<int32_t>(random() % vocabulary.size());
      const int32_t right = static_cast<int32_t>(random() % vocabulary.size());
      const std::string merged = vocabulary[left] + vocabulary[right];
      if (!known.insert(merged).second) continue;
      const int32_t token = static_cast<int32_t>(vocabulary.size());
      vocabulary.push_back(merged);
      EXPECT_TRUE(encoding.AddMerge(left, right, token));
      naive.AddMerge(left, right, token);
    }
    BytePairEncoding::Scratch scratch;
    for (int text_trial = 0; text_trial < 20; ++text_trial) {
      std::string text;
      std::vector<int32_t> letters;
      const int length = static_cast<int>(random() % 40);
      for (int i = 0; i < length; ++i) {
        letters.push_back(static_cast<int32_t>(random() % kLetters));
        text.push_back(static_cast<char>('a' + letters.back()));
      }
      std::vector<int32_t> tokens;
      encoding.Encode(text, scratch, tokens);
      ASSERT_EQ(tokens, naive.Encode(letters)) << text;
    }
  }
}

TEST(BytePairEncodingTest, LeavesOutUnknownBytesBeforeMerging) {
  BytePairEncoding encoding;
  encoding.SetByteToken('a', 0);
  encoding.SetByteToken('b', 1);
  EXPECT_TRUE(encoding.AddMerge(0, 1, 2));
  EXPECT_FALSE(encoding.AddMerge(0, 1, 3));
  BytePairEncoding::Scratch scratch;
  std::vector<int32_t> tokens = {9};
  encoding.Encode("a?b??a?", scratch, tokens);
  EXPECT_THAT(tokens, ElementsAre(9, 2, 0));
  encoding.Encode("??", scratch, tokens);
  encoding.Encode("", scratch, tokens);
  EXPECT_THAT(tokens, ElementsAre(9, 2, 0));
}

// Quadratic time would take minutes here.
TEST(BytePairEncodingTest, LongPieces) {
  BytePairEncoding encoding;
  encoding.SetByteToken('a', 0);
  EXPECT_TRUE(encoding.AddMerge(0, 0, 1));
  EXPECT_TRUE(encoding.AddMerge(1, 1, 2));
  BytePairEncoding::Scratch scratch;
  std::vector<int32_t> tokens;
  encoding.Encode(std::string(1000003, 'a'), scratch, tokens);
  ASSERT_EQ(tokens.size(), 250002u);
  EXPECT_EQ(tokens[0], 2);
  EXPECT_EQ(tokens[250000], 1);
  EXPECT_EQ(tokens[250001], 0);
}

}  // namespace
}  // namespace weir
