#ifndef WEIR_TESTS_COORDINATOR_FAKE_WORKER_H_
#define WEIR_TESTS_COORDINATOR_FAKE_WORKER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server.h>
#include <grpcpp/support/sync_stream.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "weir/worker/v1/group.grpc.pb.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {

// What a leader does, without a model: sessions are ids, texts are counted, and some prompts have a
// meaning (see Generate).
class FakeWorkerService : public worker::v1::WorkerService::Service {
 public:
  static constexpr int kSessionSlots = 3;

  grpc::Status OpenSession(grpc::ServerContext* context,
                           const worker::v1::OpenSessionRequest* request,
                           worker::v1::OpenSessionResponse* response) override;
  grpc::Status DescribeSession(grpc::ServerContext* context,
                               const worker::v1::DescribeSessionRequest* request,
                               worker::v1::DescribeSessionResponse* response) override;
  grpc::Status CloseSession(grpc::ServerContext* context,
                            const worker::v1::CloseSessionRequest* request,
                            worker::v1::CloseSessionResponse* response) override;
  // Sends two layers.
  grpc::Status Inspect(grpc::ServerContext* context, const worker::v1::InspectRequest* request,
                       grpc::ServerWriter<worker::v1::InspectResponse>* writer) override;
  grpc::Status Append(grpc::ServerContext* context,
                      grpc::ServerReader<worker::v1::AppendRequest>* reader,
                      worker::v1::AppendResponse* response) override;
  // Sends `max_tokens` tokens, then, for the prompt "wait", waits until the call is cancelled; for
  // "fail" it fails.
  grpc::Status Generate(grpc::ServerContext* context, const worker::v1::GenerateRequest* request,
                        grpc::ServerWriter<worker::v1::GenerateResponse>* writer) override;
  // Sends a message for each byte of the text.
  grpc::Status Score(grpc::ServerContext* context, const worker::v1::ScoreRequest* request,
                     grpc::ServerWriter<worker::v1::ScoreResponse>* writer) override;
  // A token is a byte.
  grpc::Status Tokenize(grpc::ServerContext* context, const worker::v1::TokenizeRequest* request,
                        worker::v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context,
                          const worker::v1::DetokenizeRequest* request,
                          worker::v1::DetokenizeResponse* response) override;
  grpc::Status DescribeModel(grpc::ServerContext* context,
                             const worker::v1::DescribeModelRequest* request,
                             worker::v1::DescribeModelResponse* response) override;

  int sessions_open() const;
  // Blocks until this many calls of Generate were cancelled, or a few seconds have passed.
  bool WaitForCancelled(int calls) const;
  // Texts that Append read to their end, and those that broke.
  int texts_ended() const;
  int texts_broken() const;

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, int64_t> sessions_ ABSL_GUARDED_BY(mutex_);  // id -> bytes appended
  int cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  int texts_ended_ ABSL_GUARDED_BY(mutex_) = 0;
  int texts_broken_ ABSL_GUARDED_BY(mutex_) = 0;
};

// One worker process in miniature: a FakeWorkerService on a port of its own, and a membership in
// the coordinator's group, which reports every 20 ms once it has been told to.
class FakeWorker {
 public:
  FakeWorker();
  ~FakeWorker();

  // What a worker with tensor-parallel size `size` registers.
  worker::v1::Registration Registration(int size) const;

  // Opens a membership through `coordinator`.
  void Join(const std::shared_ptr<grpc::Channel>& coordinator,
            const worker::v1::Registration& registration);
  // Blocks until the assignment comes, or the stream ends: then nothing.
  std::optional<worker::v1::Assignment> WaitForAssignment();
  // Reports to be ready, with a step counter that grows.
  void Run();
  // Goes on to report, but the step counter stands still.
  void Stall();
  // Breaks the stream, as a crash does.
  void Break();
  // How the stream ended; blocks until it does.
  grpc::Status WaitForEnd();

  FakeWorkerService& service() { return service_; }
  const std::string& address() const { return address_; }
  // Ends the WorkerService: nobody can connect any more.
  void StopServing();

 private:
  using Stream = grpc::ClientReaderWriter<worker::v1::JoinRequest, worker::v1::JoinResponse>;

  void Read();
  void Report();

  FakeWorkerService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;

  std::unique_ptr<worker::v1::GroupService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  std::thread reader_;
  std::thread reporter_;

  absl::Mutex mutex_;
  std::optional<worker::v1::Assignment> assignment_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more will be read
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // and the status is known
  grpc::Status end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_TESTS_COORDINATOR_FAKE_WORKER_H_
