#ifndef WEIR_TESTS_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_
#define WEIR_TESTS_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "worker/comm/rendezvous.h"

namespace weir {

// Lets ranks meet that are threads of one test.
class InMemoryRendezvous : public Rendezvous {
 public:
  absl::Status Put(const std::string& key, const std::string& value) override {
    absl::MutexLock lock(&mutex_);
    if (!values_.emplace(key, value).second) {
      return absl::AlreadyExistsError(absl::StrCat(key, " was put before"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return values_.contains(key); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&there), timeout)) {
      return absl::DeadlineExceededError(absl::StrCat("nobody put ", key));
    }
    return values_.at(key);
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_IN_MEMORY_RENDEZVOUS_H_
