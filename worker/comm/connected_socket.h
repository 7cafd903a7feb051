#ifndef WEIR_WORKER_COMM_CONNECTED_SOCKET_H_
#define WEIR_WORKER_COMM_CONNECTED_SOCKET_H_

#include <sys/socket.h>

#include "absl/status/statusor.h"

namespace weir {

// Finds, among this process's open descriptors, the connected TCP socket at `local` that joins two
// published listening addresses: that of this end or that of the other (whichever accepted).
// Returns a duplicate, to be closed by the caller, which stays valid when the original is closed.
//
// For libraries that own a connection and give no way to interrupt a blocked read: shutdown() of
// the duplicate ends it, from any thread. NOT_FOUND when there is no such socket
// (any more).
absl::StatusOr<int> DuplicateConnectedSocket(const sockaddr_storage& local,
                                             const sockaddr_storage& published_here,
                                             const sockaddr_storage& published_there);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_CONNECTED_SOCKET_H_
