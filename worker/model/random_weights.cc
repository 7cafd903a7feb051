#include "worker/model/random_weights.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace weir {
namespace {

// A good mixture of a counter's bits (SplitMix64).
uint64_t RandomBits(uint64_t counter) {
  uint64_t bits = counter * 0x9e3779b97f4a7c15u;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

constexpr int kIndexBits = 12;
constexpr size_t kValues = size_t{1} << kIndexBits;  // 8 KiB, which stay in the first-level cache
constexpr uint64_t kIndexMask = kValues - 1;

// Values of the distribution, each with its negative. The sum of eight uniform bytes is close to
// normal; integers, so that it is the same everywhere.
std::array<uint16_t, kValues> MakeValues() {
  constexpr int kBytes = 8;
  constexpr double kMean = kBytes * 127.5;
  const double kScale = kRandomWeightDeviation / 209.0197;  // sqrt(kBytes * (256^2 - 1) / 12)
  std::array<uint16_t, kValues> values;
  for (size_t i = 0; i < kValues; i += 2) {
    const uint64_t bits = RandomBits(i + 1);
    int sum = 0;
    for (int byte = 0; byte < kBytes; ++byte) sum += static_cast<int>((bits >> (8 * byte)) & 0xff);
    const auto value = static_cast<float>((sum - kMean) * kScale);
    values[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    values[i + 1] = values[i] ^ 0x8000u;
  }
  return values;
}

}  // namespace

void FillWithRandomWeights(absl::Span<uint16_t> weights) {
  constexpr size_t kPerDraw = 5;  // 60 of 64 bits
  const std::array<uint16_t, kValues> values = MakeValues();
  uint64_t counter = kValues;  // beyond those that made the values
  size_t i = 0;
  for (; i + kPerDraw <= weights.size(); i += kPerDraw) {
    const uint64_t bits = RandomBits(++counter);
    for (size_t k = 0; k < kPerDraw; ++k) {
      weights[i + k] = values[(bits >> (k * kIndexBits)) & kIndexMask];
    }
  }
  for (; i < weights.size(); ++i) weights[i] = values[RandomBits(++counter) & kIndexMask];
}

}  // namespace weir
