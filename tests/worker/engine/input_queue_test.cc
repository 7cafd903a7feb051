#include "worker/engine/input_queue.h"

#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace weir {
namespace {

std::vector<int32_t> Count(int first, int count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(InputQueueTest, ChunksWaitUntilTheyAreFullOrTheTextEnds) {
  InputQueue queue;
  EXPECT_EQ(queue.NextChunk(4), 0);
  queue.Push(Count(0, 3));
  EXPECT_EQ(queue.NextChunk(4), 0);
  queue.Push(Count(3, 3));
  EXPECT_EQ(queue.NextChunk(4), 4);
  EXPECT_EQ(queue.Take(4), Count(0, 4));
  EXPECT_EQ(queue.NextChunk(4), 0);
  queue.EndText();
  EXPECT_EQ(queue.NextChunk(4), 2);
  EXPECT_EQ(queue.Take(2), Count(4, 2));
  EXPECT_EQ(queue.NextChunk(4), 0);
  EXPECT_TRUE(queue.empty());
}

TEST(InputQueueTest, ATextThatEndsWithAFullChunkLeavesNothing) {
  InputQueue queue;
  queue.Push(Count(0, 8));
  EXPECT_EQ(queue.Take(queue.NextChunk(4)).size(), 4u);
  EXPECT_EQ(queue.Take(queue.NextChunk(4)).size(), 4u);
  EXPECT_TRUE(queue.text_open());
  queue.EndText();
  EXPECT_FALSE(queue.text_open());
  EXPECT_EQ(queue.NextChunk(4), 0);
  queue.Push(Count(8, 3));
  EXPECT_EQ(queue.NextChunk(4), 0);
}

TEST(InputQueueTest, TruncateKeepsTheTextsBefore) {
  InputQueue queue;
  queue.Push(Count(0, 5));
  queue.EndText();
  queue.Push(Count(5, 7));
  queue.Truncate(5);
  EXPECT_EQ(queue.size(), 5);
  EXPECT_FALSE(queue.text_open());
  EXPECT_EQ(queue.Take(queue.NextChunk(4)), Count(0, 4));
  EXPECT_EQ(queue.Take(queue.NextChunk(4)), Count(4, 1));
  queue.Push(Count(5, 2));
  queue.Truncate(0);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.NextChunk(4), 0);
}

// However texts are pushed and taken, each is cut at multiples of the stride from its own start.
TEST(InputQueueTest, ChunksDependOnTheTextsAlone) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const int stride = 1 + random() % 7;
    std::vector<int> lengths;
    std::vector<int> expected;
    for (int text = 0; text < 6; ++text) {
      lengths.push_back(random() % 20);
      for (int left = lengths.back(); left > 0; left -= stride) {
        expected.push_back(std::min(left, stride));
      }
    }
    InputQueue queue;
    std::vector<int> chunks;
    std::vector<int32_t> tokens;
    const auto take = [&] {
      while (random() % 4 != 0) {
        const int count = queue.NextChunk(stride);
        if (count == 0) return;
        chunks.push_back(count);
        const std::vector<int32_t> chunk = queue.Take(count);
        tokens.insert(tokens.end(), chunk.begin(), chunk.end());
      }
    };
    int next = 0;
    for (int length : lengths) {
      while (length > 0) {
        const int piece = std::min<int>(length, 1 + random() % 9);
        queue.Push(Count(next, piece));
        next += piece;
        length -= piece;
        take();
      }
      queue.EndText();
      take();
    }
    while (!queue.empty()) take();
    EXPECT_EQ(chunks, expected);
    EXPECT_EQ(tokens, Count(0, next));
  }
}

}  // namespace
}  // namespace weir
