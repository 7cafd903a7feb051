#include "worker/comm/connected_socket.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

sockaddr_storage LocalAddress(int socket) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  EXPECT_EQ(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  return address;
}

// A connection within this process, over `loopback`.
class Connection {
 public:
  Connection(int family, const sockaddr* loopback, socklen_t size) {
    listening_ = socket(family, SOCK_STREAM, 0);
    EXPECT_EQ(bind(listening_, loopback, size), 0);
    EXPECT_EQ(listen(listening_, 1), 0);
    published_ = LocalAddress(listening_);
    connecting_ = socket(family, SOCK_STREAM, 0);
    EXPECT_EQ(connect(connecting_, reinterpret_cast<sockaddr*>(&published_), size), 0);
    accepted_ = accept(listening_, nullptr, nullptr);
    EXPECT_GE(accepted_, 0);
  }
  ~Connection() {
    for (const int socket : {listening_, connecting_, accepted_}) close(socket);
  }

  int connecting() const { return connecting_; }
  int accepted() const { return accepted_; }
  const sockaddr_storage& published() const { return published_; }

 private:
  int listening_;
  int connecting_;
  int accepted_;
  sockaddr_storage published_;
};

// Expects that shutting `duplicate` down ends `socket`.
void ExpectSameConnection(const absl::StatusOr<int>& duplicate, int socket) {
  ASSERT_TRUE(duplicate.ok()) << duplicate.status();
  EXPECT_NE(*duplicate, socket);
  ASSERT_EQ(shutdown(*duplicate, SHUT_RDWR), 0);
  char byte;
  EXPECT_EQ(recv(socket, &byte, 1, 0), 0);
  close(*duplicate);
}

void ExpectBothEndsFound(int family, const sockaddr* loopback, socklen_t size) {
  const Connection other(family, loopback, size);
  const Connection connection(family, loopback, size);
  const sockaddr_storage nowhere = {};
  // The end that connected was published elsewhere, if at all; the other accepted where published.
  ExpectSameConnection(DuplicateConnectedSocket(LocalAddress(connection.accepted()),
                                                connection.published(), nowhere),
                       connection.accepted());
  const Connection again(family, loopback, size);
  ExpectSameConnection(
      DuplicateConnectedSocket(LocalAddress(again.connecting()), nowhere, again.published()),
      again.connecting());
  EXPECT_EQ(DuplicateConnectedSocket(LocalAddress(again.connecting()), nowhere, other.published())
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST(ConnectedSocketTest, FindsBothEndsOverIpv4) {
  sockaddr_in loopback = {};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ExpectBothEndsFound(AF_INET, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback));
}

TEST(ConnectedSocketTest, FindsBothEndsOverIpv6) {
  sockaddr_in6 loopback = {};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const int probe = socket(AF_INET6, SOCK_STREAM, 0);
  const bool usable = probe >= 0 && bind(probe, reinterpret_cast<const sockaddr*>(&loopback),
                                         sizeof(loopback)) == 0;
  close(probe);
  if (!usable) GTEST_SKIP() << "this host has no IPv6";
  ExpectBothEndsFound(AF_INET6, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback));
}

TEST(ConnectedSocketTest, ClosedConnectionsAreNotFound) {
  sockaddr_in loopback = {};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_storage local;
  sockaddr_storage published;
  {
    const Connection connection(AF_INET, reinterpret_cast<const sockaddr*>(&loopback),
                                sizeof(loopback));
    local = LocalAddress(connection.accepted());
    published = connection.published();
  }
  EXPECT_EQ(DuplicateConnectedSocket(local, published, published).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace weir
