#include "worker/comm/exchange.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weir {

absl::StatusOr<std::vector<std::string>> Exchange(Communicator& communicator,
                                                  const std::string& bytes) {
  const absl::StatusOr<std::vector<std::string>> gathered = communicator.Gather(bytes);
  if (!gathered.ok()) return gathered.status();
  std::string all = absl::StrJoin(*gathered, "");
  if (absl::Status status = communicator.Broadcast(all); !status.ok()) return status;
  const size_t expected = bytes.size() * communicator.size();
  if (all.size() != expected) {
    return absl::InternalError(absl::StrCat("ranks exchanged ", all.size(), " bytes instead of ",
                                            expected, "; they are not of one version"));
  }
  std::vector<std::string> exchanged;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    exchanged.push_back(all.substr(rank * bytes.size(), bytes.size()));
  }
  return exchanged;
}

absl::StatusOr<int> FirstToRefuse(Communicator& communicator, bool yes) {
  const absl::StatusOr<std::vector<std::string>> votes = Exchange(communicator, yes ? "y" : "n");
  if (!votes.ok()) return votes.status();
  const auto no = std::find(votes->begin(), votes->end(), "n");
  return no == votes->end() ? -1 : static_cast<int>(no - votes->begin());
}

}  // namespace weir
