#ifndef WEIR_KERNELS_CPU_ALIGNED_MEMORY_H_
#define WEIR_KERNELS_CPU_ALIGNED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weir {

// Zeroed host memory that starts on a cache line, and on a huge page where it fills one. The pages
// are touched at once: what was allocated is there.
class AlignedMemory {
 public:
  // Bytes that may be read past the end, so that vector loads need no tail.
  static constexpr int64_t kReadablePast = 64;

  // RESOURCE_EXHAUSTED names `what`. `what` reads like "the KV cache".
  static absl::StatusOr<AlignedMemory> Allocate(int64_t bytes, absl::string_view what);

  AlignedMemory() = default;

  std::byte* data() const { return data_.get(); }
  float* f32() const { return reinterpret_cast<float*>(data_.get()); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };

  std::unique_ptr<std::byte, Free> data_;
  int64_t bytes_ = 0;
};

// Memory for one operation's intermediate values; grows to the largest operation and stays.
class Scratch {
 public:
  // At least `count` floats with unspecified values, valid until the next call. Dies when there is
  // no memory, like any other container.
  float* Floats(int64_t count);

 private:
  AlignedMemory memory_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_ALIGNED_MEMORY_H_
