#include "cli/bench_measurements.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cli/bench_session.h"

namespace weir {
namespace {

using Sessions = std::vector<std::unique_ptr<BenchSession>>;

absl::StatusOr<Sessions> OpenSessions(const BenchTarget& target, int count) {
  Sessions sessions;
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<BenchSession>> session = BenchSession::Open(
        target.engine, absl::StrCat("bench ", i), target.cascade, target.vocabulary);
    if (!session.ok()) return session.status();
    sessions.push_back(*std::move(session));
  }
  return sessions;
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double MicrosecondsPerStep(const BenchHostTime::Total& before, const BenchHostTime::Total& after) {
  const int64_t steps = std::max<int64_t>(1, after.steps - before.steps);
  return absl::ToDoubleMicroseconds(after.time - before.time) / static_cast<double>(steps);
}

}  // namespace

absl::StatusOr<DepthSpeed> MeasureDepth(const BenchTarget& target, int64_t tokens) {
  const absl::StatusOr<Sessions> sessions = OpenSessions(target, 1);
  if (!sessions.ok()) return sessions.status();
  const absl::StatusOr<double> reading = sessions->front()->Read(tokens);
  if (!reading.ok()) return reading.status();
  const absl::StatusOr<std::vector<double>> steps =
      GenerateTogether(*sessions, tokens > 4096 ? 32 : 64);
  if (!steps.ok()) return steps.status();
  return DepthSpeed{.tokens = tokens,
                    .prefill_tokens_per_s = static_cast<double>(tokens) / *reading,
                    .decode_tokens_per_s = 1 / Mean(*steps)};
}

absl::StatusOr<PromptSpeed> MeasurePrompt(const BenchTarget& target, int64_t tokens) {
  const absl::StatusOr<Sessions> sessions = OpenSessions(target, 1);
  if (!sessions.ok()) return sessions.status();
  const absl::StatusOr<double> reading = sessions->front()->ReadToFirstToken(tokens);
  if (!reading.ok()) return reading.status();
  return PromptSpeed{.tokens = tokens,
                     .first_token_s = *reading,
                     .prefill_tokens_per_s = static_cast<double>(tokens) / *reading};
}

absl::StatusOr<BatchSpeed> MeasureBatch(const BenchTarget& target, int count, int64_t depth,
                                        int steps) {
  const absl::StatusOr<Sessions> sessions = OpenSessions(target, count);
  if (!sessions.ok()) return sessions.status();
  for (const std::unique_ptr<BenchSession>& session : *sessions) {
    const absl::StatusOr<double> reading = session->Read(depth);
    if (!reading.ok()) return reading.status();
  }
  const BenchHostTime::Total before = target.host_time->total();
  const absl::StatusOr<std::vector<double>> seconds = GenerateTogether(*sessions, steps);
  if (!seconds.ok()) return seconds.status();
  const BenchHostTime::Total after = target.host_time->total();
  return BatchSpeed{.sessions = count,
                    .depth = depth,
                    .step_ms = 1e3 * Mean(*seconds),
                    .tokens_per_s = count / Mean(*seconds),
                    .host_us_per_step = MicrosecondsPerStep(before, after)};
}

absl::StatusOr<LongSessionSpeed> MeasureLongSession(const BenchTarget& target, int64_t tokens,
                                                    int steps) {
  const absl::StatusOr<Sessions> sessions = OpenSessions(target, kLongSessionSessions);
  if (!sessions.ok()) return sessions.status();
  const auto young = absl::MakeConstSpan(*sessions).subspan(0, 1);
  const auto old = absl::MakeConstSpan(*sessions).subspan(1, 1);
  absl::StatusOr<double> reading =
      young[0]->Read(int64_t{target.cascade.total_slots()} + kYoungTokens);
  if (!reading.ok()) return reading.status();
  const absl::StatusOr<std::vector<double>> before = GenerateTogether(young, steps);
  if (!before.ok()) return before.status();
  reading = old[0]->Read(tokens);
  if (!reading.ok()) return reading.status();

  constexpr int kTurns = 8;
  std::vector<double> young_s, old_s;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (auto [session, seconds] : {std::pair(young, &young_s), std::pair(old, &old_s)}) {
      const absl::StatusOr<std::vector<double>> times =
          GenerateTogether(session, std::max(1, steps / kTurns));
      if (!times.ok()) return times.status();
      seconds->insert(seconds->end(), times->begin(), times->end());
    }
  }
  return LongSessionSpeed{.tokens = tokens,
                          .prefill_tokens_per_s = static_cast<double>(tokens) / *reading,
                          .before_ms = 1e3 * Median(*before),
                          .young_ms = 1e3 * Median(young_s),
                          .old_ms = 1e3 * Median(old_s),
                          .ratio = Median(old_s) / Median(young_s)};
}

}  // namespace weir
