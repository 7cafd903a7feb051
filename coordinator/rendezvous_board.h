#ifndef WEIR_COORDINATOR_RENDEZVOUS_BOARD_H_
#define WEIR_COORDINATOR_RENDEZVOUS_BOARD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weir {

// Where the ranks of a group find one another: named values that one rank puts and others wait for,
// separate for every generation. A generation that is over, or has not begun, takes and gives
// nothing: FAILED_PRECONDITION. Thread-safe.
class RendezvousBoard {
 public:
  static constexpr size_t kMaxKeyBytes = 256;
  static constexpr size_t kMaxValueBytes = 64 << 10;
  static constexpr size_t kMaxGenerationBytes = 16 << 20;  // keys and values of one generation

  void Open(int64_t generation);
  // Drops the generation's values and wakes whoever waits for one.
  void Close(int64_t generation);

  // INVALID_ARGUMENT (sizes), RESOURCE_EXHAUSTED (all values together), ALREADY_EXISTS (another
  // value has the name; the same one again is fine).
  absl::Status Put(int64_t generation, const std::string& key, const std::string& value);

  // Blocks until the value is there. DEADLINE_EXCEEDED at `deadline`; CANCELLED soon after
  // `cancelled` returns true.
  absl::StatusOr<std::string> Get(int64_t generation, const std::string& key, absl::Time deadline,
                                  const std::function<bool()>& cancelled);

 private:
  struct Generation {
    std::map<std::string, std::string> values;
    size_t bytes = 0;
  };

  absl::Mutex mutex_;
  absl::CondVar changed_;
  absl::flat_hash_map<int64_t, Generation> generations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_RENDEZVOUS_BOARD_H_
