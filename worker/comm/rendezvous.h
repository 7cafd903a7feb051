#ifndef WEIR_WORKER_COMM_RENDEZVOUS_H_
#define WEIR_WORKER_COMM_RENDEZVOUS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace weir {

// Where the ranks of one group leave each other small values (addresses) to find one another before
// they are connected. One forming of a group is one set of keys: each key is put once. Thread-safe.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;

  // Publishes `value`, any bytes, to all ranks.
  virtual absl::Status Put(const std::string& key, const std::string& value) = 0;
  // Waits until some rank put `key`. DEADLINE_EXCEEDED when none did within `timeout`.
  virtual absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_RENDEZVOUS_H_
