#include "coordinator/rendezvous_board.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace weir {
namespace {

// How often a waiting call asks whether its caller has gone.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(100);

absl::Status StaleGeneration(int64_t generation) {
  return absl::FailedPreconditionError(
      absl::StrCat("generation ", generation, " is not running; join again"));
}

absl::Status CheckKey(const std::string& key) {
  if (key.empty()) return absl::InvalidArgumentError("key is empty");
  if (key.size() > RendezvousBoard::kMaxKeyBytes) {
    return absl::InvalidArgumentError(absl::StrCat("key has ", key.size(), " bytes; at most ",
                                                   RendezvousBoard::kMaxKeyBytes, " are allowed"));
  }
  return absl::OkStatus();
}

}  // namespace

void RendezvousBoard::Open(int64_t generation) {
  absl::MutexLock lock(&mutex_);
  generations_.try_emplace(generation);
}

void RendezvousBoard::Close(int64_t generation) {
  absl::MutexLock lock(&mutex_);
  generations_.erase(generation);
  changed_.SignalAll();
}

absl::Status RendezvousBoard::Put(int64_t generation, const std::string& key,
                                  const std::string& value) {
  if (absl::Status status = CheckKey(key); !status.ok()) return status;
  if (value.size() > kMaxValueBytes) {
    return absl::InvalidArgumentError(absl::StrCat("value has ", value.size(), " bytes; at most ",
                                                   kMaxValueBytes, " are allowed"));
  }
  absl::MutexLock lock(&mutex_);
  const auto found = generations_.find(generation);
  if (found == generations_.end()) return StaleGeneration(generation);
  Generation& values = found->second;
  if (const auto old = values.values.find(key); old != values.values.end()) {
    if (old->second == value) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat("generation ", generation, " has another value \"",
                                                 absl::CHexEscape(key), "\" already"));
  }
  if (values.bytes + key.size() + value.size() > kMaxGenerationBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the values of generation ", generation,
                                                     " would take more than ", kMaxGenerationBytes,
                                                     " bytes"));
  }
  values.bytes += key.size() + value.size();
  values.values.emplace(key, value);
  changed_.SignalAll();
  return absl::OkStatus();
}

absl::StatusOr<std::string> RendezvousBoard::Get(int64_t generation, const std::string& key,
                                                 absl::Time deadline,
                                                 const std::function<bool()>& cancelled) {
  if (absl::Status status = CheckKey(key); !status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  while (true) {
    const auto found = generations_.find(generation);
    if (found == generations_.end()) return StaleGeneration(generation);
    const auto value = found->second.values.find(key);
    if (value != found->second.values.end()) return value->second;
    const absl::Time now = absl::Now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("nobody put \"", absl::CHexEscape(key), "\" in generation ", generation));
    }
    if (cancelled()) return absl::CancelledError("the caller has gone");
    changed_.WaitWithTimeout(&mutex_, std::min(kCancelPoll, deadline - now));
  }
}

}  // namespace weir
