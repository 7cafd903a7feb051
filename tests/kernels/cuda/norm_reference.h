#ifndef WEIR_TESTS_KERNELS_CUDA_NORM_REFERENCE_H_
#define WEIR_TESTS_KERNELS_CUDA_NORM_REFERENCE_H_

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace weir {

// Where `got`, [rows][width], is not x / rms(x) * weight, worked out in double precision and
// rounded to bfloat16; empty if nowhere. `weight` has the width.
inline std::string WrongNorm(const std::vector<float>& x, const std::vector<float>& weight,
                             float epsilon, const std::vector<__nv_bfloat16>& got) {
  const int64_t width = static_cast<int64_t>(weight.size());
  const int64_t rows = static_cast<int64_t>(x.size()) / width;
  for (int64_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) {
      squares += double{x[row * width + i]} * x[row * width + i];
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (int64_t i = 0; i < width; ++i) {
      const double want = x[row * width + i] * scale * weight[i];
      const double value = __bfloat162float(got[row * width + i]);
      if (std::abs(value - want) <= std::abs(want) * (std::ldexp(1.0, -8) + 1e-5)) continue;
      return "row " + std::to_string(row) + " of " + std::to_string(rows) + ", column " +
             std::to_string(i) + " is " + std::to_string(value) + ", not " + std::to_string(want);
    }
  }
  return "";
}

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_NORM_REFERENCE_H_
