#include "kernels/cpu/aligned_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

// The kernel promises more than there is, and ends the process that takes it at its word.
int64_t PhysicalMemory() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE); }

}  // namespace

void AlignedMemory::Free::operator()(std::byte* data) const { std::free(data); }

absl::StatusOr<AlignedMemory> AlignedMemory::Allocate(int64_t bytes, absl::string_view what) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  std::byte* data = nullptr;
  if (bytes >= 0 && bytes < PhysicalMemory()) {
    const int64_t size = (bytes + kReadablePast + alignment - 1) / alignment * alignment;
    data = static_cast<std::byte*>(std::aligned_alloc(alignment, size));
    if (data != nullptr) {
      // Only advice: without huge pages everything works, a little slower.
      if (alignment == kHugePage) madvise(data, size, MADV_HUGEPAGE);
      std::memset(data, 0, size);
    }
  }
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", what, ": ", bytes, " bytes"));
  }
  AlignedMemory memory;
  memory.data_.reset(data);
  memory.bytes_ = bytes;
  return memory;
}

float* Scratch::Floats(int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  if (memory_.data() == nullptr || memory_.bytes() < bytes) {
    memory_ = AlignedMemory();
    absl::StatusOr<AlignedMemory> grown =
        AlignedMemory::Allocate(std::max<int64_t>(bytes, 4096), "scratch");
    if (!grown.ok()) throw std::bad_alloc();
    memory_ = std::move(*grown);
  }
  return memory_.f32();
}

}  // namespace weir
