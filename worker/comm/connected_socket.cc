#include "worker/comm/connected_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"

namespace weir {
namespace {

bool SameAddress(const sockaddr_storage& a, const sockaddr_storage& b) {
  if (a.ss_family != b.ss_family) return false;
  if (a.ss_family == AF_INET) {
    const auto& a4 = reinterpret_cast<const sockaddr_in&>(a);
    const auto& b4 = reinterpret_cast<const sockaddr_in&>(b);
    return a4.sin_port == b4.sin_port && a4.sin_addr.s_addr == b4.sin_addr.s_addr;
  }
  if (a.ss_family == AF_INET6) {
    const auto& a6 = reinterpret_cast<const sockaddr_in6&>(a);
    const auto& b6 = reinterpret_cast<const sockaddr_in6&>(b);
    return a6.sin6_port == b6.sin6_port &&
           std::memcmp(&a6.sin6_addr, &b6.sin6_addr, sizeof(a6.sin6_addr)) == 0;
  }
  return false;
}

}  // namespace

absl::StatusOr<int> DuplicateConnectedSocket(const sockaddr_storage& local,
                                             const sockaddr_storage& published_here,
                                             const sockaddr_storage& published_there) {
  DIR* const descriptors = opendir("/proc/self/fd");
  if (descriptors == nullptr) {
    return absl::ErrnoToStatus(errno, "cannot list /proc/self/fd");
  }
  const absl::Cleanup close = [descriptors] { closedir(descriptors); };
  while (const dirent* entry = readdir(descriptors)) {
    int descriptor;
    if (!absl::SimpleAtoi(entry->d_name, &descriptor)) continue;  // . and ..
    sockaddr_storage here = {};
    sockaddr_storage there = {};
    socklen_t here_size = sizeof(here);
    socklen_t there_size = sizeof(there);
    if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&here), &here_size) != 0 ||
        getpeername(descriptor, reinterpret_cast<sockaddr*>(&there), &there_size) != 0) {
      continue;  // no socket, or not connected
    }
    if (!SameAddress(here, local)) continue;
    // Connections made from this end may share a local port if they lead to different places.
    if (!SameAddress(here, published_here) && !SameAddress(there, published_there)) continue;
    const int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) return absl::ErrnoToStatus(errno, "cannot duplicate a socket");
    return duplicate;
  }
  return absl::NotFoundError("no open socket joins these addresses");
}

}  // namespace weir
