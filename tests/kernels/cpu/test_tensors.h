#ifndef WEIR_TESTS_KERNELS_CPU_TEST_TENSORS_H_
#define WEIR_TESTS_KERNELS_CPU_TEST_TENSORS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"

namespace weir {

inline std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  return std::move(CreateCpuBackend({.threads = threads})).value();
}

inline std::vector<float> RandomFloats(std::mt19937& random, int64_t count,
                                       float deviation = 1.0f) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// From `low` to `high`, both included.
inline int RandomInt(std::mt19937& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

// A float32 tensor with these values.
inline Tensor MakeTensor(Backend& backend, int64_t rows, int64_t cols,
                         const std::vector<float>& values) {
  const Tensor tensor = backend.AllocateTensor(ElementType::kFloat32, rows, cols).value();
  std::copy(values.begin(), values.end(), tensor.f32());
  return tensor;
}

// A float32 tensor full of NaN: what an operation forgets to write, a test sees.
inline Tensor PoisonedTensor(Backend& backend, int64_t rows, int64_t cols) {
  return MakeTensor(backend, rows, cols,
                    std::vector<float>(rows * cols, std::numeric_limits<float>::quiet_NaN()));
}

inline std::vector<float> ToVector(Backend& backend, Tensor tensor) {
  std::vector<float> values(tensor.elements());
  if (!backend.CopyToHost(tensor, absl::MakeSpan(values)).ok()) values.clear();
  return values;
}

// Rotations of RoPE with base 10000, in double precision.
inline double RopeAngle(int head_dim, int rotation, int pair) {
  return rotation * std::pow(10000.0, -2.0 * pair / head_dim);
}

inline RopeTable MakeTestRopeTable(int head_dim, int rotations) {
  RopeTable table{.rotations = rotations, .head_dim = head_dim};
  for (int rotation = 0; rotation < rotations; ++rotation) {
    for (int pair = 0; pair < head_dim / 2; ++pair) {
      table.cos.push_back(static_cast<float>(std::cos(RopeAngle(head_dim, rotation, pair))));
      table.sin.push_back(static_cast<float>(std::sin(RopeAngle(head_dim, rotation, pair))));
    }
  }
  return table;
}

// A step of these sequences and tokens.
inline std::unique_ptr<DeviceStep> MakeStep(Backend& backend,
                                            const std::vector<SequenceStep>& sequences,
                                            const std::vector<int32_t>& tokens = {}) {
  std::unique_ptr<DeviceStep> step =
      backend.AllocateStep({}, static_cast<int>(tokens.size()), static_cast<int>(sequences.size()))
          .value();
  backend.LoadStep(tokens, sequences, *step);
  return step;
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CPU_TEST_TENSORS_H_
