#include "tests/testing/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace weir {

namespace {

constexpr int kBlock = 32;  // weights of one Q8_0 or Q4_1 block

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "MakeRandomModel: %s\n", what);
  std::abort();
}

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  double Uniform(double low, double high) {
    return low + (high - low) * (random_() >> 11) * std::ldexp(1.0, -53);
  }

  int Integer(int low, int high) { return low + static_cast<int>(random_() % (high - low + 1)); }

  // [rows, columns] in [-bound, bound], or a little beyond, each exact in `format`.
  std::vector<double> Matrix(int rows, int columns, double bound, ExactFormat format) {
    std::vector<double> weights(static_cast<size_t>(rows) * columns);
    if (format == ExactFormat::kF32) {
      for (double& weight : weights) weight = static_cast<float>(Uniform(-bound, bound));
      return weights;
    }
    // Multiples of a power of two, few enough (below 2^11 in magnitude) to be exact in float16.
    const double unit = std::ldexp(1.0, static_cast<int>(std::ceil(std::log2(bound))) - 10);
    const int limit = static_cast<int>(bound / unit);
    if (format == ExactFormat::kF16) {
      for (double& weight : weights) weight = unit * Integer(-limit, limit);
      return weights;
    }
    Require(columns % kBlock == 0, "quantised rows must be a multiple of 32 long");
    for (size_t start = 0; start < weights.size(); start += kBlock) {
      if (format == ExactFormat::kQ8_0) {
        FillQ8Block(&weights[start], unit, limit);
      } else {
        FillQ4Block(&weights[start], unit, limit);
      }
    }
    return weights;
  }

 private:
  // weight = scale * q, q in [-127, 127]; one of them is +-127, so that the scale can be told from
  // the weights.
  void FillQ8Block(double* block, double unit, int limit) {
    const double scale = unit / 128 * Integer(limit / 2, limit);
    for (int i = 0; i < kBlock; ++i) block[i] = scale * Integer(-127, 127);
    block[Integer(0, kBlock - 1)] = scale * (Integer(0, 1) == 0 ? -127 : 127);
  }

  // weight = minimum + scale * q, q in [0, 15]; both ends occur, so that both numbers can be told
  // from the weights.
  void FillQ4Block(double* block, double unit, int limit) {
    const double minimum = unit * -Integer(limit / 2, limit);
    const double scale = unit * std::max(1, Integer(limit, 2 * limit) / 15);
    for (int i = 0; i < kBlock; ++i) block[i] = minimum + scale * Integer(0, 15);
    const int lowest = Integer(0, kBlock - 1);
    block[lowest] = minimum;
    block[(lowest + Integer(1, kBlock - 1)) % kBlock] = minimum + scale * 15;
  }

  std::mt19937_64 random_;
};

}  // namespace

NaiveLlamaModel MakeRandomModel(const NaiveLlamaConfig& config, uint64_t seed, ExactFormat matrices,
                                ExactFormat embedding) {
  Generator generator(seed);
  // Uniform weights that give outputs of standard deviation `gain` for inputs of standard
  // deviation 1.
  const auto matrix = [&](int rows, int columns, double gain) {
    return generator.Matrix(rows, columns, gain * std::sqrt(3.0 / columns), matrices);
  };
  const auto norm = [&] {
    std::vector<double> weights(config.hidden);
    for (double& weight : weights) weight = static_cast<float>(generator.Uniform(0.5, 1.5));
    return weights;
  };

  NaiveLlamaModel model;
  model.config = config;
  // As the classifier it gives logits of a standard deviation of about 2.
  model.embedding = generator.Matrix(config.vocabulary, config.hidden,
                                     2.0 * std::sqrt(3.0 / config.hidden), embedding);
  const int attention_width = config.heads * config.head_dim;
  const int kv_width = config.kv_heads * config.head_dim;
  for (int l = 0; l < config.layers; ++l) {
    NaiveLlamaLayer layer;
    layer.attention_norm = norm();
    layer.query = matrix(attention_width, config.hidden, generator.Uniform(0.5, 2.0));
    layer.key = matrix(kv_width, config.hidden, 1.0);
    layer.value = matrix(kv_width, config.hidden, 1.0);
    layer.output = matrix(config.hidden, attention_width, 1.0);
    layer.ffn_norm = norm();
    layer.gate = matrix(config.ffn, config.hidden, 1.0);
    layer.up = matrix(config.ffn, config.hidden, 1.0);
    layer.down = matrix(config.hidden, config.ffn, 1.0);
    model.layers.push_back(std::move(layer));
  }
  model.final_norm = norm();
  return model;
}

std::vector<int> RandomTokens(int count, int vocabulary, uint64_t seed) {
  Generator generator(seed);
  std::vector<int> tokens(count);
  for (int& token : tokens) token = generator.Integer(0, vocabulary - 1);
  return tokens;
}

}  // namespace weir
