#include "tests/testing/random_model.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

namespace weir {

namespace {

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

  // [rows, columns] in [-bound, bound], or a little beyond, each exact in `type`.
  std::vector<double> Matrix(int rows, int columns, double bound, WeightType type) {
    Require(columns % BlockWeights(type) == 0, "quantised rows must be a multiple of 32 long");
    std::vector<double> weights(static_cast<size_t>(rows) * columns);
    for (size_t start = 0; start < weights.size(); start += BlockWeights(type)) {
      FillBlock(type, bound, &weights[start]);
    }
    return weights;
  }

 private:
  // Each end of a quantised block's range occurs in it, so that its scale can be told from its
  // weights.
  void FillBlock(WeightType type, double bound, double* block) {
    const double power = std::exp2(std::ceil(std::log2(bound)));
    switch (type) {
      case WeightType::kF32:
        *block = static_cast<float>(Uniform(-bound, bound));
        return;
      case WeightType::kF16:
        *block = Multiple(power / 1024, -bound, bound);
        return;
      case WeightType::kBF16:
        *block = Multiple(power / 128, -bound, bound);
        return;
      case WeightType::kQ8_0: {
        const double scale = Multiple(power / 128 / 1024, bound / 256, bound / 128);
        FillSteps(scale, 0.0, -127, 127, block);
        block[Integer(0, 31)] = scale * (Integer(0, 1) == 0 ? -127 : 127);
        return;
      }
      case WeightType::kQ4_0: {
        const double scale = Multiple(power / 8 / 1024, bound / 16, bound / 8);
        FillSteps(scale, 0.0, -8, 7, block);
        block[Integer(0, 31)] = scale * -8;
        return;
      }
      case WeightType::kQ4_1: {
        const double minimum = Multiple(power / 1024, -bound, -bound / 2);
        const double scale = Multiple(power / 1024, bound / 15, 2 * bound / 15);
        FillSteps(scale, minimum, 0, 15, block);
        const int lowest = Integer(0, 31);
        block[lowest] = minimum;
        block[(lowest + Integer(1, 31)) % 32] = minimum + scale * 15;
        return;
      }
    }
  }

  // A random multiple of `unit` in [low, high], or just below it.
  double Multiple(double unit, double low, double high) {
    return unit * std::floor(Uniform(low, high) / unit);
  }

  void FillSteps(double scale, double offset, int lowest, int highest, double* block) {
    for (int i = 0; i < 32; ++i) block[i] = offset + scale * Integer(lowest, highest);
  }

  std::mt19937_64 random_;
};

}  // namespace

NaiveLlamaModel MakeRandomModel(const NaiveLlamaConfig& config, uint64_t seed, WeightType matrices,
                                WeightType embedding) {
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
