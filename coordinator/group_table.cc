#include "coordinator/group_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

// FAILED_PRECONDITION naming both values, unless they are equal.
template <typename T>
absl::Status CheckSame(const WorkerInfo& worker, absl::string_view what, const T& value,
                       absl::string_view other_name, const T& other_value) {
  if (value == other_value) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the worker at ", worker.address, " has ", what,
                                                    " ", value, ", but ", other_name, " has ",
                                                    other_value));
}

}  // namespace

GroupTable::GroupTable(const GroupTableOptions& options)
    : options_(options),
      group_size_(options.tensor_parallel),
      next_generation_(options.first_generation) {}

absl::Status GroupTable::CheckFields(const WorkerInfo& worker) const {
  if (worker.address.empty()) return absl::InvalidArgumentError("registration.address is empty");
  if (worker.tensor_parallel < 1 || worker.tensor_parallel > kMaxTensorParallel) {
    return absl::InvalidArgumentError(absl::StrCat("registration.tensor_parallel is ",
                                                   worker.tensor_parallel, "; it is 1 to ",
                                                   kMaxTensorParallel));
  }
  if (worker.preferred_rank &&
      (*worker.preferred_rank < 0 || *worker.preferred_rank >= worker.tensor_parallel)) {
    return absl::InvalidArgumentError(absl::StrCat("registration.preferred_rank is ",
                                                   *worker.preferred_rank, "; it is 0 to ",
                                                   worker.tensor_parallel - 1));
  }
  return absl::OkStatus();
}

absl::Status GroupTable::CheckAgreement(const WorkerInfo& worker) const {
  absl::Status status =
      CheckSame(worker, "version", worker.version, "the coordinator", options_.version);
  if (status.ok() && options_.tensor_parallel != 0) {
    status = CheckSame(worker, "tensor-parallel size", worker.tensor_parallel, "the coordinator",
                       options_.tensor_parallel);
  }
  if (!status.ok() || members_.empty()) return status;

  // All members agree with one another, so that one stands for all.
  const WorkerInfo& other = members_.begin()->second.worker;
  const std::string name = absl::StrCat("the worker at ", other.address);
  status = CheckSame(worker, "model", worker.model_fingerprint, name, other.model_fingerprint);
  if (status.ok()) {
    status = CheckSame(worker, "tensor-parallel size", worker.tensor_parallel, name,
                       other.tensor_parallel);
  }
  if (status.ok()) status = CheckSame(worker, "device", worker.device, name, other.device);
  if (status.ok()) {
    status = CheckSame(worker, "settings", worker.settings_fingerprint, name,
                       other.settings_fingerprint);
  }
  return status;
}

absl::StatusOr<MemberId> GroupTable::Join(const WorkerInfo& worker, absl::Time now,
                                          GroupChanges* changes) {
  if (absl::Status status = CheckFields(worker); !status.ok()) return status;
  if (absl::Status status = CheckAgreement(worker); !status.ok()) return status;
  for (const auto& [id, member] : members_) {
    if (member.worker.address == worker.address) {
      return absl::UnavailableError(
          absl::StrCat("a worker at ", worker.address, " has joined already and not left yet"));
    }
  }
  group_size_ = worker.tensor_parallel;
  const MemberId id = next_member_++;
  Member& member = members_[id];
  member.worker = worker;
  const std::vector<MemberId> waiting = Waiting();
  if (static_cast<int>(waiting.size()) == worker.tensor_parallel) FormGroup(waiting, now, changes);
  return id;
}

std::vector<MemberId> GroupTable::Waiting() const {
  std::vector<MemberId> waiting;
  for (const auto& [id, member] : members_) {
    if (member.assignment.generation == 0) waiting.push_back(id);
  }
  return waiting;
}

void GroupTable::FormGroup(const std::vector<MemberId>& waiting, absl::Time now,
                           GroupChanges* changes) {
  const int size = static_cast<int>(waiting.size());
  const int64_t generation = next_generation_++;
  Group& group = groups_[generation];
  group.members.assign(size, 0);
  // Those that have a rank's weights first; then everybody takes the lowest rank that is free.
  std::vector<MemberId> others;
  for (const MemberId id : waiting) {
    const std::optional<int> preferred = members_[id].worker.preferred_rank;
    if (preferred && group.members[*preferred] == 0) {
      group.members[*preferred] = id;
    } else {
      others.push_back(id);
    }
  }
  auto place = group.members.begin();
  for (const MemberId id : others) {
    place = std::find(place, group.members.end(), 0);
    *place = id;
  }
  for (int rank = 0; rank < size; ++rank) {
    Member& member = members_[group.members[rank]];
    member.assignment = {generation, rank, size};
    member.last_progress = now;
    changes->assigned.push_back({group.members[rank], member.assignment});
  }
}

void GroupTable::Report(MemberId id, const WorkerReport& report, absl::Time now,
                        GroupChanges* changes) {
  const auto found = members_.find(id);
  if (found == members_.end()) return;
  Member& member = found->second;
  const int64_t generation = member.assignment.generation;
  if (generation == 0 || report.generation != generation) return;
  // Until it is ready, a member need only be alive: it reads the model's weights.
  if (!member.ready || (report.ready && report.steps > member.steps)) {
    member.last_progress = now;
    member.steps = report.steps;
  }
  if (member.ready || !report.ready) return;
  member.ready = true;
  Group& group = groups_[generation];
  group.ready = std::all_of(group.members.begin(), group.members.end(),
                            [this](MemberId id) { return members_[id].ready; });
  if (group.ready) {
    changes->ready.push_back({generation, members_[group.members.front()].worker.address});
  }
}

void GroupTable::Leave(MemberId id, GroupChanges* changes) {
  const auto found = members_.find(id);
  if (found == members_.end()) return;
  const Member member = found->second;
  members_.erase(found);
  if (member.assignment.generation == 0) return;
  End(member.assignment.generation,
      absl::StrCat("rank ", member.assignment.rank, ", the worker at ", member.worker.address,
                   ", left"),
      changes);
}

void GroupTable::End(int64_t generation, const std::string& reason, GroupChanges* changes) {
  const auto found = groups_.find(generation);
  if (found == groups_.end()) return;
  for (const MemberId id : found->second.members) {
    if (members_.erase(id) == 0) continue;  // The one that left.
    changes->released.push_back(
        {id, absl::UnavailableError(
                 absl::StrCat("generation ", generation, " is over: ", reason, "; join again"))});
  }
  groups_.erase(found);
  changes->ended.push_back({generation, reason});
}

void GroupTable::CheckProgress(absl::Time now, GroupChanges* changes) {
  std::vector<GroupChanges::Ended> stalled;
  for (const auto& [generation, group] : groups_) {
    for (const MemberId id : group.members) {
      const Member& member = members_[id];
      const absl::Duration still = now - member.last_progress;
      if (still < options_.stall_timeout) continue;
      stalled.push_back(
          {generation,
           absl::StrCat("rank ", member.assignment.rank, ", the worker at ", member.worker.address,
                        member.ready ? ", made no step for " : ", did not report for ",
                        absl::FormatDuration(options_.stall_timeout))});
      break;
    }
  }
  for (const GroupChanges::Ended& end : stalled) End(end.generation, end.reason, changes);
}

void GroupTable::ReleaseAll(const std::string& reason, GroupChanges* changes) {
  while (!groups_.empty()) End(groups_.begin()->first, reason, changes);
  for (const auto& [id, member] : members_) {
    changes->released.push_back({id, absl::UnavailableError(reason)});
  }
  members_.clear();
}

bool GroupTable::IsReady(int64_t generation) const {
  const auto found = groups_.find(generation);
  return found != groups_.end() && found->second.ready;
}

std::string GroupTable::Describe() const {
  const int size = group_size_;
  if (size == 0) return "waiting for workers: none joined";
  std::string ready;
  const Group* starting = nullptr;
  for (const auto& [generation, group] : groups_) {
    if (group.ready) {
      absl::StrAppend(&ready, ready.empty() ? "" : ", ", generation);
    } else {
      starting = &group;
    }
  }
  if (!ready.empty()) {
    return absl::StrCat("ready: generation ", ready, " of ", size,
                        size == 1 ? " worker" : " workers");
  }
  if (starting == nullptr) {
    return absl::StrCat("waiting for workers: ", Waiting().size(), " of ", size, " joined");
  }
  const auto ready_members = std::count_if(starting->members.begin(), starting->members.end(),
                                           [this](MemberId id) { return members_.at(id).ready; });
  return absl::StrCat("waiting for workers: ", size, " of ", size, " joined, ", ready_members,
                      " of ", size, " ready");
}

}  // namespace weir
