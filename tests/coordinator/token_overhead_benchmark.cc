// Measures what the coordinator adds to the way of a streamed token: the same fake leader sends
// tokens at a steady pace to a client that calls it directly and to one that calls through the
// coordinator, both over loopback TCP, in turns. Prints medians and 99th percentiles.
//
//   bazel run //tests/coordinator:token_overhead_benchmark [-- TOKENS MICROSECONDS_BETWEEN]

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/coordinator_server.h"
#include "monitoring/metrics.h"
#include "tests/coordinator/fake_worker.h"

namespace weir {
namespace {

int64_t NowNanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// Sends `max_tokens` tokens; each carries the time at which it was sent, as text.
class PacedWorkerService : public FakeWorkerService {
 public:
  explicit PacedWorkerService(std::chrono::microseconds pace) : pace_(pace) {}

  grpc::Status Generate(grpc::ServerContext*, const worker::v1::GenerateRequest* request,
                        grpc::ServerWriter<worker::v1::GenerateResponse>* writer) override {
    for (int64_t i = 0; i < request->request().max_tokens(); ++i) {
      std::this_thread::sleep_for(pace_);
      worker::v1::GenerateResponse response;
      response.mutable_response()->add_tokens()->mutable_token()->set_token(1);
      response.mutable_response()->set_text(absl::StrCat(NowNanoseconds()));
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

 private:
  const std::chrono::microseconds pace_;
};

// Microseconds from a token's sending to its arrival.
double Age(const std::string& sent) {
  return static_cast<double>(NowNanoseconds() - std::atoll(sent.c_str())) * 1e-3;
}

void Print(const char* name, std::vector<double>* microseconds) {
  std::sort(microseconds->begin(), microseconds->end());
  std::printf("%-22s median %6.1f us   99 %% %6.1f us\n", name,
              (*microseconds)[microseconds->size() / 2],
              (*microseconds)[microseconds->size() * 99 / 100]);
}

int Run(int tokens, std::chrono::microseconds pace) {
  PacedWorkerService service(pace);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const std::string address = absl::StrCat("127.0.0.1:", port);

  Metrics metrics("1.0");
  auto coordinator = CoordinatorServer::Start({.version = "1.0"}, &metrics);
  if (!coordinator.ok()) {
    std::fprintf(stderr, "%s\n", coordinator.status().ToString().c_str());
    return 1;
  }
  FakeWorker member;  // joins, and sends calls to the paced service
  worker::v1::Registration registration = member.Registration(1);
  registration.set_address(address);
  member.Join((*coordinator)->InProcessGroupChannel(), registration);
  member.WaitForAssignment();
  member.Run();
  while ((*coordinator)->Describe().find("ready") != 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));

  const auto credentials = grpc::InsecureChannelCredentials();
  const auto direct = worker::v1::WorkerService::NewStub(grpc::CreateChannel(address, credentials));
  const auto through = v1::GenerationService::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", (*coordinator)->port()), credentials));

  std::vector<double> direct_ages;
  std::vector<double> through_ages;
  constexpr int kTurns = 10;
  for (int turn = 0; turn < kTurns; ++turn) {
    v1::GenerateRequest request;
    request.set_text("x");
    request.set_max_tokens(tokens / kTurns);
    {
      grpc::ClientContext context;
      worker::v1::GenerateRequest wrapped;
      *wrapped.mutable_request() = request;
      const auto reader = direct->Generate(&context, wrapped);
      worker::v1::GenerateResponse response;
      while (reader->Read(&response)) direct_ages.push_back(Age(response.response().text()));
      reader->Finish();
    }
    grpc::ClientContext context;
    const auto reader = through->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) through_ages.push_back(Age(response.text()));
    reader->Finish();
  }
  if (direct_ages.empty() || through_ages.empty()) return 1;
  Print("from the leader", &direct_ages);
  Print("through the coordinator", &through_ages);
  std::printf("the coordinator adds %.1f us at the median\n",
              through_ages[through_ages.size() / 2] - direct_ages[direct_ages.size() / 2]);
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  const int tokens = argc > 1 ? std::atoi(argv[1]) : 5000;
  const int pace = argc > 2 ? std::atoi(argv[2]) : 1000;
  return weir::Run(tokens, std::chrono::microseconds(pace));
}
