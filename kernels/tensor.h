#ifndef WEIR_KERNELS_TENSOR_H_
#define WEIR_KERNELS_TENSOR_H_

#include <cstddef>
#include <cstdint>

namespace weir {

enum class ElementType { kFloat32, kBFloat16 };

constexpr int64_t ElementBytes(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

// A view of a dense row-major matrix in a backend's memory (host or device). The backend that
// allocated it owns the memory for its own lifetime. Copy freely.
struct Tensor {
  void* data = nullptr;
  ElementType type = ElementType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t elements() const { return rows * cols; }
  // Rows [first, first + count) of this tensor.
  Tensor Rows(int64_t first, int64_t count) const {
    return {static_cast<std::byte*>(data) + first * cols * ElementBytes(type), type, count, cols};
  }
  float* f32() const { return static_cast<float*>(data); }
};

}  // namespace weir

#endif  // WEIR_KERNELS_TENSOR_H_
