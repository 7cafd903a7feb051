#ifndef WEIR_COORDINATOR_SESSION_ID_H_
#define WEIR_COORDINATOR_SESSION_ID_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

// A new session's id: 128 bits of the system's random generator as 32 lower-case hexadecimal
// digits. Nobody can guess it, so whoever knows it may use the session.
std::string NewSessionId();

// INVALID_ARGUMENT unless `id`, a request's field `session_id`, has the form of an id. The message
// quotes no more of it than is useful.
absl::Status CheckSessionId(absl::string_view id);

// The answer for a session that does not exist and for one that belongs to somebody else: they are
// not to be told apart.
absl::Status SessionNotFound(absl::string_view id);

}  // namespace weir

#endif  // WEIR_COORDINATOR_SESSION_ID_H_
