#include "monitoring/listen_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weir {
namespace {

absl::Status NotAnAddress(const std::string& address, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("cannot listen on \"", address, "\": ", why));
}

absl::Status FromErrno(const std::string& address, int error) {
  const std::string message = absl::StrCat("cannot listen on ", address, ": ", strerror(error));
  switch (error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(message);
    case EACCES:
      return absl::PermissionDeniedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status TryBind(const std::string& address, const addrinfo& info) {
  const int fd = socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC, info.ai_protocol);
  if (fd < 0) return FromErrno(address, errno);
  // As servers do: connections of an earlier server that linger do not count.
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool free = bind(fd, info.ai_addr, info.ai_addrlen) == 0 && listen(fd, /*backlog=*/1) == 0;
  const int error = errno;
  close(fd);
  return free ? absl::OkStatus() : FromErrno(address, error);
}

}  // namespace

absl::Status CheckListenAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return NotAnAddress(address, "expected HOST:PORT, such as 127.0.0.1:8080");
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return NotAnAddress(address, "an IPv6 address is written in brackets, such as [::1]:8080");
  }
  const std::string port = address.substr(colon + 1);
  int port_number = -1;
  if (!absl::SimpleAtoi(port, &port_number) || port_number < 0 || port_number > 65535) {
    return NotAnAddress(address, absl::StrCat("\"", port, "\" is not a port from 0 to 65535"));
  }

  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return NotAnAddress(address, absl::StrCat("\"", host, "\": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  // A name may stand for several addresses; the machine need not have them all (IPv6).
  absl::Status status;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    status = TryBind(address, *info);
    if (status.ok() || absl::IsAlreadyExists(status)) return status;
  }
  return status;
}

}  // namespace weir
