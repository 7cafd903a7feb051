#include "worker/comm/in_memory_rendezvous.h"

#include <cassert>

#include "absl/strings/str_cat.h"

namespace weir {

absl::Status InMemoryRendezvous::Put(const std::string& key, const std::string& value) {
  absl::MutexLock lock(&mutex_);
  if (!aborted_.ok()) return aborted_;
  if (!values_.emplace(key, value).second) {
    return absl::AlreadyExistsError(absl::StrCat(key, " was put before"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> InMemoryRendezvous::Get(const std::string& key,
                                                    absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return values_.contains(key) || !aborted_.ok();
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&over), timeout)) {
    return absl::DeadlineExceededError(absl::StrCat("nobody put ", key));
  }
  if (!aborted_.ok()) return aborted_;
  return values_.at(key);
}

void InMemoryRendezvous::Abort(const absl::Status& why) {
  assert(!why.ok());
  absl::MutexLock lock(&mutex_);
  aborted_.Update(why);
}

}  // namespace weir
