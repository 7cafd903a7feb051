#include "worker/comm/in_process_group.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "worker/comm/rank_order_sum.h"

namespace weir {
namespace {

// A collective, on every rank: post what the others may touch, Meet, work on the posted memory,
// then Part. Meet can fail; then nobody works. Between Meet and Part nobody waits for anything, so
// Part always ends soon and needs no way out: when it returns, nobody touches this rank's memory
// again.
class Meeting {
 public:
  Meeting(int size, absl::Duration timeout) : size_(size), timeout_(timeout), came_(size, false) {}

  int size() const { return size_; }

  // Returns when all ranks have come. Everything they did before is visible.
  absl::Status Meet(int rank) {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    came_[rank] = true;
    const int64_t meeting = meetings_;
    if (++came_count_ == size_) {
      std::fill(came_.begin(), came_.end(), false);
      came_count_ = 0;
      at_work_ = size_;
      ++meetings_;
      changed_.SignalAll();
      return absl::OkStatus();
    }
    const absl::Time deadline = absl::Now() + timeout_;
    while (meetings_ == meeting && status_.ok()) {
      if (changed_.WaitWithDeadline(&mutex_, deadline) && meetings_ == meeting && status_.ok()) {
        const auto absent = std::find(came_.begin(), came_.end(), false) - came_.begin();
        FailLocked(absl::UnavailableError(
            absl::StrCat("rank ", absent, " was silent for ", absl::FormatDuration(timeout_))));
      }
    }
    // A meeting that came about counts, even if the group has failed since: others are at work.
    return meetings_ == meeting ? status_ : absl::OkStatus();
  }

  void Part() {
    absl::MutexLock lock(&mutex_);
    if (--at_work_ == 0) changed_.SignalAll();
    // The next meeting needs this rank, so at_work_ cannot rise before this wait ends.
    while (at_work_ > 0) changed_.Wait(&mutex_);
  }

  absl::Status status() {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

  void Fail(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    FailLocked(std::move(status));
  }

 private:
  void FailLocked(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (status_.ok()) status_ = std::move(status);
    changed_.SignalAll();
  }

  const int size_;
  const absl::Duration timeout_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> came_ ABSL_GUARDED_BY(mutex_);  // by rank, to the next meeting
  int came_count_ ABSL_GUARDED_BY(mutex_) = 0;
  int at_work_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t meetings_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What the ranks share. A rank writes its own entries before Meet; all read them until Part.
struct Group {
  Group(int size, absl::Duration timeout) : meeting(size, timeout), tensors(size), bytes(size) {}

  Meeting meeting;
  std::vector<Tensor> tensors;
  std::vector<const std::string*> bytes;
};

class InProcessCommunicator : public Communicator {
 public:
  InProcessCommunicator(int rank, std::shared_ptr<Group> group)
      : rank_(rank), group_(std::move(group)) {}

  ~InProcessCommunicator() override {
    group_->meeting.Fail(absl::UnavailableError(absl::StrCat("rank ", rank_, " has left")));
  }

  int rank() const override { return rank_; }
  int size() const override { return group_->meeting.size(); }

  absl::Status AllReduceSum(Tensor x) override {
    assert(x.type == ElementType::kFloat32);
    group_->tensors[rank_] = x;
    return Together([&] {
      // Each rank sums one share for all: nobody else reads or writes that share.
      const int64_t share = (x.elements() + size() - 1) / size();
      const int64_t begin = std::min(x.elements(), rank_ * share);
      const int64_t count = std::min(x.elements() - begin, share);
      std::vector<const float*> parts;
      for (const Tensor& tensor : group_->tensors) {
        assert(tensor.elements() == x.elements());
        parts.push_back(tensor.f32() + begin);
      }
      SumInRankOrder(parts, count, x.f32() + begin);
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank_) continue;
        std::copy_n(x.f32() + begin, count, group_->tensors[peer].f32() + begin);
      }
    });
  }

  absl::Status AllGather(Tensor x, Tensor out) override {
    assert(out.type == x.type && out.rows == size() * x.rows && out.cols == x.cols);
    group_->tensors[rank_] = x;
    return Together([&] {
      if (x.elements() == 0) return;
      for (int peer = 0; peer < size(); ++peer) {
        std::memcpy(out.Rows(peer * x.rows, x.rows).data, group_->tensors[peer].data,
                    x.elements() * ElementBytes(x.type));
      }
    });
  }

  absl::Status Broadcast(std::string& bytes) override {
    group_->bytes[rank_] = &bytes;
    return Together([&] {
      if (rank_ != 0) bytes = *group_->bytes[0];
    });
  }

  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override {
    group_->bytes[rank_] = &bytes;
    std::vector<std::string> gathered;
    const absl::Status status = Together([&] {
      if (rank_ != 0) return;
      for (const std::string* peer : group_->bytes) gathered.push_back(*peer);
    });
    if (!status.ok()) return status;
    return gathered;
  }

  absl::Status Poll() override { return group_->meeting.status(); }

  void Abort() override {
    group_->meeting.Fail(
        absl::CancelledError(absl::StrCat("the group was aborted by rank ", rank_)));
  }

 private:
  template <typename Work>
  absl::Status Together(Work work) {
    const absl::Status status = group_->meeting.Meet(rank_);
    if (!status.ok()) return status;
    work();
    group_->meeting.Part();
    return absl::OkStatus();
  }

  const int rank_;
  const std::shared_ptr<Group> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(int size, absl::Duration timeout) {
  const auto group = std::make_shared<Group>(size, timeout);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(std::make_unique<InProcessCommunicator>(rank, group));
  }
  return communicators;
}

}  // namespace weir
