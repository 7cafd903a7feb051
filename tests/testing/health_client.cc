#include "tests/testing/health_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

namespace weir {

bool IsServing(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  // The messages are so small that they are written by hand: a string in field 1, and an enum in
  // field 1 of which 1 is SERVING.
  std::string request;
  if (!service.empty()) {
    request = "\x0a";
    request += static_cast<char>(service.size());
    request += service;
  }
  const grpc::Slice slice(request);
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                          grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  grpc::Slice answer;
  if (!status.ok() || !response.DumpToSingleSlice(&answer).ok()) return false;
  return std::string(answer.begin(), answer.end()) == "\x08\x01";
}

}  // namespace weir
