#ifndef WEIR_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_
#define WEIR_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/comm/rendezvous.h"

namespace weir {

// Lets ranks meet that are threads of one process. ALREADY_EXISTS for a key that was put before.
// Thread-safe.
class InMemoryRendezvous : public Rendezvous {
 public:
  absl::Status Put(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override;

  // Some rank will not come, and why: calls in progress and later ones fail with this error at
  // once. The first reason stays.
  void Abort(const absl::Status& why);

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_
