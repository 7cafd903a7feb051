#ifndef WEIR_TESTS_WORKER_SERVICE_FAKE_COORDINATOR_H_
#define WEIR_TESTS_WORKER_SERVICE_FAKE_COORDINATOR_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "weir/worker/v1/group.grpc.pb.h"

namespace weir {

// A GroupService that forms groups as the real one does, and does to them what the test says. It
// acts on a member when that member's next report comes.
class FakeCoordinator final : public worker::v1::GroupService::Service {
 public:
  FakeCoordinator();
  ~FakeCoordinator() override;

  std::string address() const;
  std::shared_ptr<grpc::Channel> Channel() const;

  // All later Joins fail with this status; OK: they do not.
  void Refuse(const grpc::Status& status);
  // All later assignments are this one.
  void AssignAlways(const worker::v1::Assignment& assignment);
  // Ends the streams of all members.
  void EndAll(const grpc::Status& status);

  // These wait for what they return, for up to 30 seconds.
  // All registrations so far, at least `count`.
  std::vector<worker::v1::Registration> WaitForRegistrations(size_t count);
  // Until every one of `size` members of the newest generation has reported to be ready. False at
  // the time limit.
  bool WaitForReady(int size);
  // Until no member's stream is open. False at the time limit.
  bool WaitForNobody();

  // The newest generation.
  int64_t generation() const;
  // The last report of a rank of the newest generation.
  std::optional<worker::v1::Report> LastReport(int rank) const;

  grpc::Status Join(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<worker::v1::JoinResponse, worker::v1::JoinRequest>* stream) override;
  grpc::Status PutRendezvous(grpc::ServerContext* context,
                             const worker::v1::PutRendezvousRequest* request,
                             worker::v1::PutRendezvousResponse* response) override;
  grpc::Status GetRendezvous(grpc::ServerContext* context,
                             const worker::v1::GetRendezvousRequest* request,
                             worker::v1::GetRendezvousResponse* response) override;

 private:
  struct Waiting {
    std::optional<int> preferred;
    worker::v1::Assignment assignment;  // generation 0: not yet
  };

  void FormGroup(int size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  std::optional<worker::v1::Assignment> always_ ABSL_GUARDED_BY(mutex_);
  std::vector<worker::v1::Registration> registrations_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Waiting>> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
  int members_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int, worker::v1::Report> reports_ ABSL_GUARDED_BY(mutex_);
  int64_t ended_generation_ ABSL_GUARDED_BY(mutex_) = 0;  // this and earlier ones are over
  grpc::Status ended_status_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<int64_t, std::string>, std::string> values_ ABSL_GUARDED_BY(mutex_);

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_SERVICE_FAKE_COORDINATOR_H_
