#ifndef WEIR_WORKER_COMM_GLOO_MESH_H_
#define WEIR_WORKER_COMM_GLOO_MESH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/rendezvous.h"

namespace weir {

struct GlooOptions {
  int rank = 0;
  int size = 1;
  // A name or address of this host to listen on, as the other ranks reach it. Ports are chosen by
  // the system.
  std::string address = "127.0.0.1";
  // A rank that neither sends nor takes a message for this long is lost. At least 1 ms.
  absl::Duration timeout = absl::Seconds(10);
  // How long to wait at Connect for every other rank to publish its addresses.
  absl::Duration join_timeout = absl::Minutes(2);
};

// A TCP connection between every two ranks of a group, made by Gloo: ordered messages of up to
// kMaxMessageBytes. Send and Receive run in the caller's thread, without the hand-over to Gloo's
// event loop that costs more than the message does.
//
// Where all ranks send a message to all others, and only then receive one from each, no rank blocks
// for ever: a message fits in a connection's buffers.
//
// Neither encrypted nor authenticated: for hosts that trust one another. A stranger that takes a
// connection is found out at Connect, but one that speaks Gloo's protocol could do worse than that.
//
// Any failure ends all connections, so that every rank learns of it at once; all later calls return
// it. One thread, but for Abort.
class GlooMesh {
 public:
  static constexpr int64_t kMaxMessageBytes = 64 << 10;

  // Blocks until all ranks are connected. UNAVAILABLE, naming the rank, when one does not come;
  // INVALID_ARGUMENT when the options are wrong or the address is not of this host; errors of
  // `rendezvous`. Makes the process ignore SIGPIPE, which Gloo does not guard against.
  static absl::StatusOr<std::unique_ptr<GlooMesh>> Connect(const GlooOptions& options,
                                                           Rendezvous& rendezvous);
  virtual ~GlooMesh() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // OK until a call failed or Abort was called.
  virtual absl::Status status() = 0;

  // Where messages are written before they are sent: [kMaxMessageBytes]. Free again after Send.
  virtual std::byte* outgoing() = 0;
  // Sends the first `bytes` of outgoing().
  virtual absl::Status Send(int peer, int64_t bytes) = 0;
  // The next message of `peer`, valid until its next Receive. The caller knows the length.
  virtual absl::StatusOr<const std::byte*> Receive(int peer) = 0;

  // As status, but a peer whose connection has ended counts as lost. Waits for nothing.
  virtual absl::Status Poll() = 0;

  // Makes the call in progress and all later ones fail with CANCELLED. Any thread.
  virtual void Abort() = 0;

 protected:
  GlooMesh(int rank, int size) : rank_(rank), size_(size) {}

 private:
  const int rank_;
  const int size_;
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_GLOO_MESH_H_
