#include "worker/engine/rank_agreement.h"

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/comm/exchange.h"

namespace weir {

absl::Status CheckRanksAgree(Communicator& communicator, int64_t step, uint64_t digest) {
  const std::string bytes(reinterpret_cast<const char*>(&digest), sizeof(digest));
  const absl::StatusOr<std::vector<std::string>> digests = Exchange(communicator, bytes);
  if (!digests.ok()) return digests.status();
  std::vector<std::string> differing;
  for (int rank = 1; rank < communicator.size(); ++rank) {
    if ((*digests)[rank] != digests->front()) differing.push_back(absl::StrCat("rank ", rank));
  }
  if (differing.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("ranks disagree on step ", step, ": ", absl::StrJoin(differing, ", "),
                   differing.size() == 1 ? " differs" : " differ", " from rank 0"));
}

}  // namespace weir
