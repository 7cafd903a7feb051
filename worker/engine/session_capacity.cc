#include "worker/engine/session_capacity.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weir {
namespace {

// More than any machine has, and so little that sums over ranks cannot overflow.
constexpr int64_t kMostBytes = int64_t{1} << 50;

bool ParseBytes(absl::string_view text, int64_t& bytes) {
  return absl::SimpleAtoi(text, &bytes) && bytes >= 0 && bytes <= kMostBytes;
}

}  // namespace

std::string SerializeRankMemory(const RankMemory& memory) {
  return absl::StrCat(memory.free, " ", memory.session_bytes, " ", memory.place);
}

absl::StatusOr<RankMemory> ParseRankMemory(absl::string_view bytes) {
  const std::vector<absl::string_view> parts = absl::StrSplit(bytes, absl::MaxSplits(' ', 2));
  RankMemory memory;
  if (parts.size() != 3 || !ParseBytes(parts[0], memory.free) ||
      !ParseBytes(parts[1], memory.session_bytes) || memory.session_bytes == 0) {
    return absl::InternalError("a rank does not tell what memory it has");
  }
  memory.place = std::string(parts[2]);
  return memory;
}

int64_t SessionsWithRoom(absl::Span<const RankMemory> ranks) {
  assert(!ranks.empty());
  std::map<std::string, RankMemory> places;
  for (const RankMemory& rank : ranks) {
    const auto [place, first] = places.emplace(rank.place, rank);
    if (first) continue;
    place->second.free = std::min(place->second.free, rank.free);
    place->second.session_bytes += rank.session_bytes;
  }
  int64_t sessions = std::numeric_limits<int64_t>::max();
  for (const auto& [name, memory] : places) {
    sessions = std::min(sessions, memory.free / memory.session_bytes);
  }
  return sessions;
}

}  // namespace weir
