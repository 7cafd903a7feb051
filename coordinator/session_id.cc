#include "coordinator/session_id.h"

#include <sys/random.h>

#include <cstdio>
#include <cstdlib>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr size_t kRandomBytes = 16;
constexpr size_t kDigits = 2 * kRandomBytes;

}  // namespace

std::string NewSessionId() {
  char bytes[kRandomBytes];
  // Up to 256 bytes come whole or not at all, and from a kernel that has getrandom they come.
  if (getrandom(bytes, sizeof(bytes), /*flags=*/0) != sizeof(bytes)) {
    perror("getrandom");
    abort();
  }
  return absl::BytesToHexString(absl::string_view(bytes, sizeof(bytes)));
}

absl::Status CheckSessionId(absl::string_view id) {
  if (id.empty()) return absl::InvalidArgumentError("session_id is not set");
  if (id.size() != kDigits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session_id has ", id.size(), " characters; an id is ", kDigits, " hexadecimal digits"));
  }
  if (!absl::c_all_of(id, absl::ascii_isxdigit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session_id is \"", absl::CHexEscape(id), "\"; an id is ", kDigits, " hexadecimal digits"));
  }
  return absl::OkStatus();
}

absl::Status SessionNotFound(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("there is no session ", id));
}

}  // namespace weir
