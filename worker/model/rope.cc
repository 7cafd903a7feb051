#include "worker/model/rope.h"

#include <cmath>
#include <vector>

namespace weir {

RopeTable MakeRopeTable(const LlamaConfig& config, int rotations) {
  const int pairs = config.head_dim / 2;
  std::vector<double> frequencies(pairs);
  for (int i = 0; i < pairs; ++i) {
    frequencies[i] = std::pow(config.rope_base, -2.0 * i / config.head_dim) / config.rope_scale;
    if (!config.rope_divisors.empty()) frequencies[i] /= config.rope_divisors[i];
  }
  RopeTable table;
  table.rotations = rotations;
  table.head_dim = config.head_dim;
  table.cos.reserve(static_cast<size_t>(rotations) * pairs);
  table.sin.reserve(static_cast<size_t>(rotations) * pairs);
  for (int rotation = 0; rotation < rotations; ++rotation) {
    for (double frequency : frequencies) {
      table.cos.push_back(static_cast<float>(std::cos(rotation * frequency)));
      table.sin.push_back(static_cast<float>(std::sin(rotation * frequency)));
    }
  }
  return table;
}

}  // namespace weir
