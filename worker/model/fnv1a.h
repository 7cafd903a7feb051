#ifndef WEIR_WORKER_MODEL_FNV1A_H_
#define WEIR_WORKER_MODEL_FNV1A_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace weir {

// FNV-1a, 64 bits: the same in every process, no guard against malice.
class Fnv1a {
 public:
  void Add(absl::Span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
      value_ = (value_ ^ std::to_integer<uint64_t>(byte)) * 0x100000001b3u;
    }
  }
  void Add(uint64_t value) {
    Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&value), sizeof(value)));
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_FNV1A_H_
