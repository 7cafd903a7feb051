#include "cli/bench_group.h"

#include <string>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "cli/serving.h"
#include "worker/comm/in_process_group.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/session_capacity.h"

namespace weir {
namespace {

// Calls call(rank) of all ranks at the same time. Returns the first error in time: later ones may
// only follow from it.
absl::Status OnAllRanks(int size, absl::FunctionRef<absl::Status(int)> call) {
  absl::Mutex mutex;
  absl::Status first;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const absl::Status status = call(rank);
      absl::MutexLock lock(&mutex);
      first.Update(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace

BenchGroup::BenchGroup(const RankOptions& options)
    : ranks_(options.tensor_parallel), communicators_(options.tensor_parallel) {}

absl::StatusOr<std::unique_ptr<BenchGroup>> BenchGroup::Load(const RankOptions& options) {
  std::unique_ptr<BenchGroup> group(new BenchGroup(options));
  const absl::Status loaded =
      OnAllRanks(group->size(), [&](int rank) { return group->LoadRank(options, rank); });
  if (!loaded.ok()) return loaded;
  return group;
}

absl::Status BenchGroup::LoadRank(RankOptions options, int rank) {
  options.rank = rank;
  options.gpu += rank;
  if (rank != 0) options.engine.observer = nullptr;
  absl::StatusOr<std::unique_ptr<Rank>> loaded = Rank::Load(options);
  if (!loaded.ok()) return loaded.status();
  ranks_[rank] = *std::move(loaded);
  return absl::OkStatus();
}

absl::Status BenchGroup::Start() {
  if (size() == 1) {
    communicators_[0] = MakeSingleCommunicator();
  } else if (leader().options().device == "cpu") {
    communicators_ = MakeInProcessGroup(size());
  } else if (absl::Status connected = ConnectGpus(); !connected.ok()) {
    return connected;
  }
  for (int rank = 0; rank < size(); ++rank) {
    absl::StatusOr<std::unique_ptr<Engine>> engine =
        ranks_[rank]->StartEngine(communicators_[rank].get());
    if (!engine.ok()) {
      for (const std::unique_ptr<Engine>& started : engines_) {
        started->Abort(std::string(engine.status().message()));
      }
      return engine.status();
    }
    engines_.push_back(*std::move(engine));
  }
  return absl::OkStatus();
}

absl::Status BenchGroup::ConnectGpus() {
  InMemoryRendezvous rendezvous;
  return OnAllRanks(size(), [&](int rank) {
    const absl::Status connected = ConnectGpu(rank, rendezvous);
    if (!connected.ok()) rendezvous.Abort(connected);
    return connected;
  });
}

absl::Status BenchGroup::ConnectGpu(int rank, InMemoryRendezvous& rendezvous) {
  NcclOptions options = {.group = {.rank = rank, .size = size()},
                         .gpu = ranks_[rank]->options().gpu,
                         .stream = ranks_[rank]->backend().stream()};
  // All ranks would say the same.
  if (rank == 0) options.log = LogSentence;
  absl::StatusOr<std::unique_ptr<Communicator>> communicator =
      ConnectNcclCommunicator(options, rendezvous);
  if (!communicator.ok()) return communicator.status();
  communicators_[rank] = *std::move(communicator);
  return absl::OkStatus();
}

BenchGroup::~BenchGroup() {
  // The leader's last plan tells the others to stop; a follower that is destroyed before it has
  // read that aborts the group instead.
  for (size_t rank = 0; rank < engines_.size(); ++rank) {
    if (rank > 0) engines_[rank]->Wait().IgnoreError();
    engines_[rank].reset();
  }
  // At the same time, since one may wait for another.
  OnAllRanks(size(), [&](int rank) {
    communicators_[rank].reset();
    return absl::OkStatus();
  }).IgnoreError();
}

absl::StatusOr<int64_t> BenchGroup::SessionsThatFit() const {
  std::vector<RankMemory> memories;
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    absl::StatusOr<RankMemory> memory = rank->MemoryForSessions();
    if (!memory.ok()) return memory.status();
    memories.push_back(*std::move(memory));
  }
  return leader().options().engine.max_sessions + SessionsWithRoom(memories);
}

int64_t BenchGroup::session_bytes() const { return size() * leader().session_bytes(); }

absl::Status BenchGroup::Explain(const absl::Status& status) {
  if (size() == 1 || status.ok() || engine().health().ok()) return status;
  std::vector<std::string> reasons;
  for (int rank = 0; rank < size(); ++rank) {
    reasons.push_back(absl::StrCat("rank ", rank, ": ", engines_[rank]->Wait().message()));
  }
  return absl::Status(status.code(), absl::StrJoin(reasons, "; "));
}

}  // namespace weir
