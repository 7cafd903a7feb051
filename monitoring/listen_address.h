#ifndef WEIR_MONITORING_LISTEN_ADDRESS_H_
#define WEIR_MONITORING_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/status.h"

namespace weir {

// Whether this process can listen on `address`, "HOST:PORT" with an IPv4 address, an IPv6 address
// in brackets or a name; port 0 stands for a free one. Asked before a server library binds, because
// the libraries only say that they could not.
//   INVALID_ARGUMENT   it is not an address
//   ALREADY_EXISTS     another socket listens there
//   PERMISSION_DENIED, UNAVAILABLE   as the system says
// The message is a sentence that names the address.
absl::Status CheckListenAddress(const std::string& address);

}  // namespace weir

#endif  // WEIR_MONITORING_LISTEN_ADDRESS_H_
