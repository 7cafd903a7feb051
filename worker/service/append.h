#ifndef WEIR_WORKER_SERVICE_APPEND_H_
#define WEIR_WORKER_SERVICE_APPEND_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "weir/v1/generation.pb.h"
#include "worker/service/hosted_sessions.h"
#include "worker/service/leader_state.h"

namespace weir {

// The pieces of an Append call.
class AppendStream {
 public:
  virtual ~AppendStream() = default;

  // Blocks. False at the end: the client closed the stream, or it broke (see cancelled).
  virtual bool Read(v1::AppendRequest* request) = 0;
  // Tells whether the call broke, was cancelled or ran out of time. May be asked on any thread, and
  // when the stream is gone.
  virtual std::function<bool()> cancelled() const = 0;
  // Breaks the call. Any thread.
  virtual void Cancel() = 0;
};

// Reads the pieces of a text into a session, as generation.proto tells it.
absl::Status Append(LeaderState& leader, AppendStream& stream, v1::AppendResponse* response);

// Ends the text that the session's last Append left open, if any: reads what is left of it and
// returns the number of these tokens. To be called before anything else is read into the session.
// After an error, such as CANCELLED, the next call goes on.
absl::StatusOr<int64_t> EndAppendedText(LeaderState& leader, HostedSession& session,
                                        const std::function<bool()>& cancelled);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_APPEND_H_
