#include "worker/comm/gloo_mesh.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gloo/transport/buffer.h"
#include "gloo/transport/context.h"
#include "gloo/transport/device.h"
#include "gloo/transport/pair.h"
#include "gloo/transport/tcp/device.h"
#include "worker/comm/connected_socket.h"

namespace weir {
namespace {

using gloo::transport::Buffer;
using gloo::transport::Pair;

// Gloo's name of the one buffer at each end of a connection.
constexpr int kBufferSlot = 0;

// The first message on a connection: shows that the other end is the rank we mean.
struct Hello {
  uint64_t magic = 0x5745'4952'474c'4f4f;  // "WEIRGLOO"
  int32_t from = 0;
  int32_t to = 0;
  int32_t size = 0;
  int32_t reserved = 0;

  friend bool operator==(const Hello&, const Hello&) = default;
};

// Gloo's message without the source line before it and the address within it, whose port it prints
// in the wrong byte order: "[/src/pair.cc:589] Read error [127.0.0.1]:4711: Connection reset".
std::string Plain(absl::string_view message) {
  const size_t source_end = message.find("] ");
  if (absl::StartsWith(message, "[") && source_end != message.npos) {
    message.remove_prefix(source_end + 2);
  }
  const size_t address = message.find(" [");
  if (address == message.npos) return std::string(message);
  const size_t reason = message.find(": ", address);
  return absl::StrCat(message.substr(0, address),
                      reason == message.npos ? "" : message.substr(reason));
}

std::string AddressKey(int from, int to) { return absl::StrCat("gloo/", from, "/", to); }

absl::StatusOr<sockaddr_storage> SocketAddress(const std::vector<char>& gloo_address) {
  sockaddr_storage address;
  if (gloo_address.size() < sizeof(address)) {
    return absl::InternalError("an address of Gloo does not begin with a socket address");
  }
  std::memcpy(&address, gloo_address.data(), sizeof(address));
  return address;
}

class ConnectedGlooMesh : public GlooMesh {
 public:
  explicit ConnectedGlooMesh(const GlooOptions& options)
      : GlooMesh(options.rank, options.size),
        timeout_(options.timeout),
        outgoing_(kMaxMessageBytes),
        links_(options.size) {}

  ~ConnectedGlooMesh() override {
    ShutDown();
    for (Link& link : links_) {
      if (link.socket >= 0) close(link.socket);
    }
  }

  // The stages of Connect. Gloo throws.
  absl::Status Listen(const std::string& address);
  absl::Status Publish(Rendezvous& rendezvous);
  absl::Status Join(Rendezvous& rendezvous, absl::Duration join_timeout);
  absl::Status ExchangeHellos();

  absl::Status status() override {
    if (status_.ok() && aborted_) status_ = Aborted();
    return status_;
  }
  std::byte* outgoing() override { return outgoing_.data(); }
  absl::Status Send(int peer, int64_t bytes) override;
  absl::StatusOr<const std::byte*> Receive(int peer) override;
  absl::Status Poll() override;

  void Abort() override {
    aborted_ = true;
    ShutDown();
  }

 private:
  // One connection. Gloo's buffers refer to the pair, which the context owns.
  struct Link {
    std::vector<char> published_here;
    std::vector<char> published_there;
    std::vector<std::byte> incoming;
    std::unique_ptr<Buffer> send;
    std::unique_ptr<Buffer> receive;
    int socket = -1;  // a duplicate, for ShutDown
  };

  template <typename Action>
  void ForEachPeer(Action action) {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) action(peer, links_[peer]);
    }
  }

  Pair& pair(int peer) { return *context_->getPair(peer); }
  absl::Status ConnectTo(int peer, Link& link);
  // Ends every connection, at both ends. `socket`s do not change once connected.
  void ShutDown() {
    for (const Link& link : links_) {
      if (link.socket >= 0) shutdown(link.socket, SHUT_RDWR);
    }
  }
  absl::Status Lost(int peer, absl::string_view reason);
  static absl::Status Aborted() { return absl::CancelledError("the group was aborted"); }

  const absl::Duration timeout_;
  std::atomic<bool> aborted_ = false;
  absl::Status status_;  // of the first failure
  std::vector<std::byte> outgoing_;
  std::shared_ptr<gloo::transport::Context> context_;
  std::vector<Link> links_;  // by rank; this rank's own is unused
};

absl::Status ConnectedGlooMesh::Listen(const std::string& address) {
  std::shared_ptr<gloo::transport::Device> device;
  try {
    device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address.c_str()));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on '", address, "': ", Plain(error.what())));
  }
  context_ = device->createContext(rank(), size());
  context_->setTimeout(std::chrono::milliseconds(absl::ToInt64Milliseconds(timeout_)));
  ForEachPeer([&](int peer, Link& link) {
    const auto& pair = context_->createPair(peer);
    link.published_here = pair->address().bytes();
    // Before the connection is: its first message may come at any time.
    link.incoming.resize(kMaxMessageBytes);
    link.receive = pair->createRecvBuffer(kBufferSlot, link.incoming.data(), kMaxMessageBytes);
    link.send = pair->createSendBuffer(kBufferSlot, outgoing_.data(), kMaxMessageBytes);
  });
  return absl::OkStatus();
}

absl::Status ConnectedGlooMesh::Publish(Rendezvous& rendezvous) {
  absl::Status status;
  ForEachPeer([&](int peer, const Link& link) {
    status.Update(rendezvous.Put(AddressKey(rank(), peer), std::string(link.published_here.begin(),
                                                                       link.published_here.end())));
  });
  return status;
}

absl::Status ConnectedGlooMesh::Join(Rendezvous& rendezvous, absl::Duration join_timeout) {
  // All addresses first: no connection is begun to a group that does not come about.
  const absl::Time deadline = absl::Now() + join_timeout;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const absl::StatusOr<std::string> address =
        rendezvous.Get(AddressKey(peer, rank()), deadline - absl::Now());
    if (absl::IsDeadlineExceeded(address.status())) {
      return absl::UnavailableError(absl::StrCat("rank ", peer, " of ", size(),
                                                 " did not come within ",
                                                 absl::FormatDuration(join_timeout)));
    }
    if (!address.ok()) return address.status();
    links_[peer].published_there.assign(address->begin(), address->end());
  }
  absl::Status status;
  ForEachPeer([&](int peer, Link& link) {
    if (status.ok()) status = ConnectTo(peer, link);
  });
  return status;
}

absl::Status ConnectedGlooMesh::ConnectTo(int peer, Link& link) {
  try {
    pair(peer).connect(link.published_there);
    // From here on, messages are written and read by the thread that calls for them.
    pair(peer).setSync(/*enable=*/true, /*busyPoll=*/false);
  } catch (const std::exception& error) {
    return Lost(peer, error.what());
  }
  const auto local = SocketAddress(pair(peer).address().bytes());
  const auto published_here = SocketAddress(link.published_here);
  const auto published_there = SocketAddress(link.published_there);
  for (const auto& address : {local, published_here, published_there}) {
    if (!address.ok()) return address.status();
  }
  const absl::StatusOr<int> socket =
      DuplicateConnectedSocket(*local, *published_here, *published_there);
  if (absl::IsNotFound(socket.status())) return Lost(peer, "the connection ended at once");
  if (!socket.ok()) return socket.status();
  link.socket = *socket;
  return absl::OkStatus();
}

absl::Status ConnectedGlooMesh::ExchangeHellos() {
  absl::Status status;
  ForEachPeer([&](int peer, const Link&) {
    const Hello hello{.from = rank(), .to = peer, .size = size()};
    std::memcpy(outgoing(), &hello, sizeof(hello));
    if (status.ok()) status = Send(peer, sizeof(hello));
  });
  ForEachPeer([&](int peer, const Link&) {
    if (!status.ok()) return;
    const absl::StatusOr<const std::byte*> message = Receive(peer);
    if (!message.ok()) {
      status = message.status();
      return;
    }
    const Hello expected{.from = peer, .to = rank(), .size = size()};
    Hello hello;
    std::memcpy(&hello, *message, sizeof(hello));
    if (hello != expected) status = Lost(peer, "somebody else took its connection");
  });
  return status;
}

absl::Status ConnectedGlooMesh::Lost(int peer, absl::string_view reason) {
  std::string plain = Plain(reason);
  if (absl::StrContains(plain, "timeout")) {
    absl::StrAppend(&plain, " after ", absl::FormatDuration(timeout_));
  }
  status_ =
      aborted_
          ? Aborted()
          : absl::UnavailableError(absl::StrCat("lost rank ", peer, " of ", size(), ": ", plain));
  ShutDown();
  return status_;
}

absl::Status ConnectedGlooMesh::Send(int peer, int64_t bytes) {
  assert(bytes > 0 && bytes <= kMaxMessageBytes);
  if (absl::Status status = this->status(); !status.ok()) return status;
  try {
    links_[peer].send->send(0, bytes);
    links_[peer].send->waitSend();
  } catch (const std::exception& error) {
    return Lost(peer, error.what());
  }
  return absl::OkStatus();
}

absl::StatusOr<const std::byte*> ConnectedGlooMesh::Receive(int peer) {
  if (absl::Status status = this->status(); !status.ok()) return status;
  try {
    links_[peer].receive->waitRecv();
  } catch (const std::exception& error) {
    return Lost(peer, error.what());
  }
  return links_[peer].incoming.data();
}

absl::Status ConnectedGlooMesh::Poll() {
  if (absl::Status status = this->status(); !status.ok()) return status;
  // A negative descriptor, as of this rank's own link, is skipped.
  std::vector<pollfd> sockets;
  for (const Link& link : links_) sockets.push_back({.fd = link.socket, .events = POLLRDHUP});
  if (poll(sockets.data(), sockets.size(), /*timeout=*/0) <= 0) return absl::OkStatus();
  for (int peer = 0; peer < size(); ++peer) {
    if (sockets[peer].revents != 0) return Lost(peer, "its connection ended");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GlooMesh>> GlooMesh::Connect(const GlooOptions& options,
                                                            Rendezvous& rendezvous) {
  if (options.rank < 0 || options.rank >= options.size) {
    return absl::InvalidArgumentError(absl::StrCat("rank is ", options.rank, "; a group of ",
                                                   options.size, " has ranks 0 to ",
                                                   options.size - 1));
  }
  if (options.timeout < absl::Milliseconds(1) || options.timeout > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeout is ", absl::FormatDuration(options.timeout), "; it must be from 1ms to 24h"));
  }
  std::signal(SIGPIPE, SIG_IGN);
  auto mesh = std::make_unique<ConnectedGlooMesh>(options);
  absl::Status status = mesh->Listen(options.address);
  if (status.ok()) status = mesh->Publish(rendezvous);
  if (status.ok()) status = mesh->Join(rendezvous, options.join_timeout);
  if (status.ok()) status = mesh->ExchangeHellos();
  if (!status.ok()) return status;
  return mesh;
}

}  // namespace weir
