#include "coordinator/group_keeper.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

using Calls = std::vector<std::function<void()>>;

// A time that is only good for differences, but does not jump when the time of day is set.
absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

void Make(const Calls& calls) {
  for (const std::function<void()>& call : calls) call();
}

}  // namespace

GroupKeeper::GroupKeeper(GroupKeeperOptions options, Metrics* metrics)
    : options_(std::move(options)),
      workers_joined_(metrics->AddGauge("weir_coordinator_workers_joined",
                                        "Workers that are members of a group or wait for one.")),
      groups_ready_(
          metrics->AddGauge("weir_coordinator_groups_ready", "Worker groups that take calls.")),
      groups_lost_(metrics->AddCounter("weir_coordinator_groups_lost_total",
                                       "Worker groups that ended, ready or not.")),
      table_(options_.table),
      thread_([this] { Run(); }) {}

GroupKeeper::~GroupKeeper() { Stop(); }

void GroupKeeper::Log(const std::string& sentence) const {
  if (options_.log) options_.log(sentence);
}

Calls GroupKeeper::Settle(const GroupChanges& changes) {
  Calls calls;
  for (const GroupChanges::Assigned& assigned : changes.assigned) {
    rendezvous_.Open(assigned.assignment.generation);
    calls.push_back([listener = listeners_.at(assigned.member), assigned] {
      listener->OnAssigned(assigned.assignment);
    });
  }
  for (const GroupChanges::Ready& ready : changes.ready) {
    to_connect_.push_back(ready);
    wake_.Signal();
  }
  for (const GroupChanges::Ended& ended : changes.ended) {
    rendezvous_.Close(ended.generation);
    connected_.erase(ended.generation);
    groups_lost_.Increment();
    calls.push_back([this, ended] {
      options_.ended(ended.generation, ended.reason);
      Log(absl::StrCat("generation ", ended.generation, " is over: ", ended.reason));
    });
  }
  for (const GroupChanges::Released& released : changes.released) {
    auto listener = listeners_.extract(released.member);
    calls.push_back([listener = std::move(listener.mapped()), released] {
      listener->OnReleased(released.status);
    });
  }
  workers_joined_.Set(table_.members());
  groups_ready_.Set(static_cast<double>(connected_.size()));
  return calls;
}

absl::StatusOr<MemberId> GroupKeeper::Join(const WorkerInfo& worker,
                                           const std::shared_ptr<MemberListener>& listener) {
  absl::StatusOr<MemberId> member;
  Calls calls;
  std::string now_waiting;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return absl::UnavailableError("the coordinator stops");
    GroupChanges changes;
    member = table_.Join(worker, SteadyNow(), &changes);
    if (member.ok()) listeners_.emplace(*member, listener);
    calls = Settle(changes);
    now_waiting = table_.Describe();
  }
  if (member.ok()) {
    Log(absl::StrCat("the worker at ", worker.address, " joined; ", now_waiting));
  } else {
    Log(absl::StrCat("a worker was refused: ", member.status().message()));
  }
  Make(calls);
  return member;
}

void GroupKeeper::Report(MemberId member, const WorkerReport& report) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    GroupChanges changes;
    table_.Report(member, report, SteadyNow(), &changes);
    calls = Settle(changes);
  }
  Make(calls);
}

void GroupKeeper::Leave(MemberId member) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    GroupChanges changes;
    table_.Leave(member, &changes);
    listeners_.erase(member);
    calls = Settle(changes);
  }
  Make(calls);
}

void GroupKeeper::Stop() {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    GroupChanges changes;
    table_.ReleaseAll("the coordinator stops", &changes);
    calls = Settle(changes);
    wake_.Signal();
  }
  Make(calls);
  if (thread_.joinable()) thread_.join();
}

std::string GroupKeeper::Describe() const {
  absl::MutexLock lock(&mutex_);
  return table_.Describe();
}

void GroupKeeper::Run() {
  while (true) {
    Calls calls;
    std::deque<GroupChanges::Ready> to_connect;
    {
      absl::MutexLock lock(&mutex_);
      if (!stopping_ && to_connect_.empty()) {
        wake_.WaitWithTimeout(&mutex_, options_.check_interval);
      }
      if (stopping_) return;
      to_connect.swap(to_connect_);
      GroupChanges changes;
      table_.CheckProgress(SteadyNow(), &changes);
      calls = Settle(changes);
    }
    Make(calls);
    for (const GroupChanges::Ready& group : to_connect) Connect(group);
  }
}

void GroupKeeper::Connect(const GroupChanges::Ready& group) {
  const absl::Status status = options_.connect(group.generation, group.leader_address);
  Calls calls;
  bool connected = false;
  {
    absl::MutexLock lock(&mutex_);
    GroupChanges changes;
    if (!status.ok()) table_.End(group.generation, std::string(status.message()), &changes);
    connected = table_.IsReady(group.generation);
    if (connected) connected_.insert(group.generation);
    calls = Settle(changes);
  }
  if (connected) {
    Log(absl::StrCat("generation ", group.generation, " is ready; its leader is the worker at ",
                     group.leader_address));
  } else {
    // It may have ended, and others been told so, before `connect` had done its work.
    options_.ended(group.generation, "it ended while it was being connected");
  }
  Make(calls);
}

}  // namespace weir
