#include "cli/bench_fit.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace weir {
namespace {

constexpr int kMaxSessions = 1 << 16;

// Bytes that this host could still give without swapping.
absl::StatusOr<int64_t> FreeHostBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  int64_t kibibytes = 0;
  while (meminfo >> key >> kibibytes) {
    if (key == "MemAvailable:") return kibibytes * 1024;
    std::getline(meminfo, unit);
  }
  return absl::UnavailableError("/proc/meminfo does not tell MemAvailable");
}

// The bytes of a session, or why so many do not fit.
absl::StatusOr<int64_t> TryToLoad(RankOptions& options, int sessions) {
  options.engine.max_sessions = sessions;
  const absl::StatusOr<std::unique_ptr<Rank>> rank = Rank::Load(options);
  if (!rank.ok()) return rank.status();
  return (*rank)->session_bytes();
}

absl::StatusOr<BenchFit> MeasureFitOnCpu(RankOptions& options) {
  options.engine.max_sessions = 1;
  const absl::StatusOr<std::unique_ptr<Rank>> rank = Rank::Load(options);
  if (!rank.ok()) return rank.status();
  const absl::StatusOr<int64_t> free = FreeHostBytes();
  if (!free.ok()) return free.status();
  const int64_t bytes = (*rank)->session_bytes();
  return BenchFit{.sessions = static_cast<int>(std::min<int64_t>(kMaxSessions, 1 + *free / bytes)),
                  .session_bytes = bytes};
}

}  // namespace

absl::StatusOr<BenchFit> MeasureFit(RankOptions options) {
  if (options.device == "cpu") return MeasureFitOnCpu(options);
  const absl::StatusOr<int64_t> one = TryToLoad(options, 1);
  if (!one.ok()) return one.status();
  int fits = 1;
  int too_many = kMaxSessions + 1;
  while (too_many - fits > 1) {
    const int sessions = std::min(2 * fits, fits + (too_many - fits) / 2);
    const absl::StatusOr<int64_t> tried = TryToLoad(options, sessions);
    if (tried.ok()) {
      fits = sessions;
    } else if (absl::IsResourceExhausted(tried.status())) {
      too_many = sessions;
    } else {
      return tried.status();
    }
  }
  return BenchFit{.sessions = fits, .session_bytes = *one};
}

}  // namespace weir
