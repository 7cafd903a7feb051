#ifndef WEIR_KERNELS_CUDA_DEVICE_MEMORY_H_
#define WEIR_KERNELS_CUDA_DEVICE_MEMORY_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/common/cuda_status.h"

namespace weir {

// Owns memory of one kind. Movable; freed on destruction.
template <cudaError_t (*kFree)(void*)>
class OwnedMemory {
 public:
  OwnedMemory() = default;
  OwnedMemory(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  OwnedMemory(OwnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  OwnedMemory& operator=(OwnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~OwnedMemory() {
    if (data_ != nullptr) (void)kFree(data_);
  }

  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

using DeviceMemory = OwnedMemory<cudaFree>;
using PinnedMemory = OwnedMemory<cudaFreeHost>;

// What takes less device memory, for users: of what grows with sessions, and of weights.
inline constexpr char kLessForSessions[] =
    "Fewer sessions (--max-sessions), fewer slots (--slots), a shorter stride (--stride) or more "
    "GPUs (--tensor-parallel) take less";
inline constexpr char kLessForWeights[] =
    "Each of more GPUs (--tensor-parallel) holds a part of the model only";

// On the current device. `what` names it in the error, which tells what is free and what `help`s.
// Zeroed, so that nobody reads what another process has left. `bytes` may be 0; a negative number
// means that it overflowed.
absl::StatusOr<DeviceMemory> AllocateDevice(int64_t bytes, const std::string& what,
                                            absl::string_view help = kLessForSessions);
// Host memory that the device copies from and to at full speed.
absl::StatusOr<PinnedMemory> AllocatePinned(int64_t bytes, const std::string& what);

// Copies host memory to the device and waits until that is over. cudaMemcpy promises it only to the
// default stream, which a backend's stream does not wait for.
cudaError_t CopyToDevice(void* to, const void* from, int64_t bytes);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DEVICE_MEMORY_H_
