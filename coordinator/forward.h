#ifndef WEIR_COORDINATOR_FORWARD_H_
#define WEIR_COORDINATOR_FORWARD_H_

#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <chrono>
#include <functional>

#include "coordinator/leader.h"

namespace weir {

// Sends the responses inside a leader's stream to the caller, one by one as they come, until either
// side ends. `sent` is called for every response that went out, with the time at which it came; it
// may be empty.
template <typename WorkerResponse, typename Response>
grpc::Status ForwardStream(
    LeaderCall* call, grpc::ClientReader<WorkerResponse>* reader,
    grpc::ServerWriter<Response>* writer,
    const std::function<void(const Response&, std::chrono::steady_clock::time_point)>& sent = {}) {
  WorkerResponse message;
  while (reader->Read(&message)) {
    const auto received = std::chrono::steady_clock::now();
    if (!writer->Write(message.response())) {
      call->context()->TryCancel();  // The caller has gone.
      break;
    }
    if (sent) sent(message.response(), received);
  }
  return call->Result(reader->Finish());
}

}  // namespace weir

#endif  // WEIR_COORDINATOR_FORWARD_H_
