#include "coordinator/session_table.h"

#include <cassert>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/session_id.h"

namespace weir {

void SessionTable::Add(const std::string& id, const std::string& principal, int64_t generation) {
  absl::MutexLock lock(&mutex_);
  const Key key(principal, next_sequence_++);
  [[maybe_unused]] const bool is_new = sessions_.insert({id, {key, generation, ""}}).second;
  assert(is_new);
  order_.emplace(key, id);
  ++counts_[generation];
}

const SessionTable::Entry* SessionTable::FindOwn(const std::string& id,
                                                 const std::string& principal) const {
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second.key.first != principal) return nullptr;
  return &found->second;
}

absl::StatusOr<int64_t> SessionTable::Find(const std::string& id,
                                           const std::string& principal) const {
  absl::ReaderMutexLock lock(&mutex_);
  const Entry* entry = FindOwn(id, principal);
  if (entry == nullptr) return SessionNotFound(id);
  if (!entry->lost.empty()) {
    return absl::UnavailableError(
        absl::StrCat("session ", id, " was lost: ", entry->lost, "; create a new one"));
  }
  return entry->generation;
}

absl::Status SessionTable::Remove(const std::string& id, const std::string& principal) {
  absl::MutexLock lock(&mutex_);
  const Entry* entry = FindOwn(id, principal);
  if (entry == nullptr) return SessionNotFound(id);
  if (entry->lost.empty()) {
    order_.erase(entry->key);
    Uncount(entry->generation);
  }
  sessions_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<SessionPage> SessionTable::List(const std::string& principal, int page_size,
                                               const std::string& page_token) const {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size is ", page_size, "; it is 0 to ", kMaxPageSize));
  }
  if (page_size == 0) page_size = kDefaultPageSize;
  // A token is the place of the last session of the page before, which may be deleted by now.
  int64_t after = 0;
  if (!page_token.empty() && (!absl::SimpleAtoi(page_token, &after) || after < 0)) {
    return absl::InvalidArgumentError(absl::StrCat("page_token is \"",
                                                   absl::CHexEscape(page_token.substr(0, 32)),
                                                   "\", which no page has returned"));
  }

  SessionPage page;
  absl::ReaderMutexLock lock(&mutex_);
  for (auto it = order_.upper_bound(Key(principal, after));
       it != order_.end() && it->first.first == principal; ++it) {
    if (page.sessions.size() == static_cast<size_t>(page_size)) {
      page.next_page_token = absl::StrCat(after);
      break;
    }
    page.sessions.push_back({it->second, sessions_.at(it->second).generation});
    after = it->first.second;
  }
  return page;
}

void SessionTable::Lose(int64_t generation, absl::string_view reason) {
  absl::MutexLock lock(&mutex_);
  if (counts_.erase(generation) == 0) return;
  for (auto& [id, entry] : sessions_) {
    if (entry.generation != generation || !entry.lost.empty()) continue;
    entry.lost = std::string(reason);
    order_.erase(entry.key);
    lost_.push_back(id);
  }
  while (lost_.size() > kLostSessionsKept) {
    sessions_.erase(lost_.front());
    lost_.pop_front();
  }
}

void SessionTable::Uncount(int64_t generation) {
  const auto found = counts_.find(generation);
  if (--found->second == 0) counts_.erase(found);
}

int SessionTable::size() const {
  absl::ReaderMutexLock lock(&mutex_);
  return static_cast<int>(order_.size());
}

int SessionTable::SizeOf(int64_t generation) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto found = counts_.find(generation);
  return found == counts_.end() ? 0 : found->second;
}

}  // namespace weir
