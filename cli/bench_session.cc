#include "cli/bench_session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/terminal.h"

namespace weir {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

RunOptions Generating(int64_t tokens) {
  RunOptions options{.kind = RunKind::kGenerate, .cancelled = [] { return false; }};
  options.generate.max_tokens = tokens;
  options.generate.ignore_end_token = true;
  return options;
}

void ShowReading(int64_t done, int64_t tokens, Progress& progress) {
  progress.Show(absl::StrCat("reading ", WithCommas(done), " of ", WithCommas(tokens), " tokens"));
}

// Waits for the next token.
absl::Status WaitForToken(Run& run) {
  while (true) {
    const absl::StatusOr<RunEvent> event = run.Next();
    if (!event.ok()) return event.status();
    if (event->kind == RunEvent::Kind::kToken) return absl::OkStatus();
  }
}

}  // namespace

BenchSession::BenchSession(Engine* engine, std::string id, int vocabulary)
    : engine_(engine), id_(std::move(id)), vocabulary_(vocabulary) {}

absl::StatusOr<std::unique_ptr<BenchSession>> BenchSession::Open(Engine* engine, std::string id,
                                                                 const CascadeConfig& cascade,
                                                                 int vocabulary) {
  if (absl::Status status = engine->OpenSession(id, cascade); !status.ok()) return status;
  return std::unique_ptr<BenchSession>(new BenchSession(engine, std::move(id), vocabulary));
}

// An engine that failed has said so before.
BenchSession::~BenchSession() { engine_->CloseSession(id_).IgnoreError(); }

absl::StatusOr<double> BenchSession::Read(int64_t tokens) {
  return SecondsToRead({.kind = RunKind::kAppend, .cancelled = [] { return false; }}, tokens,
                       RunEvent::Kind::kFinished);
}

absl::StatusOr<double> BenchSession::ReadToFirstToken(int64_t tokens) {
  return SecondsToRead(Generating(1), tokens, RunEvent::Kind::kToken);
}

absl::StatusOr<double> BenchSession::SecondsToRead(const RunOptions& options, int64_t tokens,
                                                   RunEvent::Kind until) {
  constexpr int64_t kPiece = 1 << 16;
  Progress progress;
  const Clock::time_point start = Clock::now();
  const absl::StatusOr<std::unique_ptr<Run>> run = engine_->StartRun(id_, options);
  if (!run.ok()) return run.status();
  std::vector<int32_t> piece;
  // Feeding an append waits until most was read, feeding a generation does not.
  for (int64_t done = 0; done < tokens; done += static_cast<int64_t>(piece.size())) {
    ShowReading(done, tokens, progress);
    piece.resize(std::min(kPiece, tokens - done));
    for (int32_t& token : piece) {
      token = static_cast<int32_t>((7919 * fed_++ + 100) % vocabulary_);
    }
    if (absl::Status status = (*run)->Feed(piece); !status.ok()) return status;
  }
  if (absl::Status status = (*run)->CloseInput(); !status.ok()) return status;
  while (true) {
    const absl::StatusOr<RunEvent> event = (*run)->Next();
    if (!event.ok()) return event.status();
    if (event->kind == until) return SecondsSince(start);
    ShowReading(event->tokens_read, tokens, progress);
  }
}

absl::StatusOr<std::vector<double>> GenerateTogether(
    absl::Span<const std::unique_ptr<BenchSession>> sessions, int steps) {
  // The first token comes from logits which are there already; a backend may prepare something at
  // the first steps of a kind.
  constexpr int kWarmUp = 4;
  // So that those who began a step earlier go on until the last one is done.
  constexpr int kSpare = 32;
  std::vector<std::unique_ptr<Run>> runs;
  for (const std::unique_ptr<BenchSession>& session : sessions) {
    absl::StatusOr<std::unique_ptr<Run>> run =
        session->engine_->StartRun(session->id_, Generating(kWarmUp + steps + kSpare));
    if (!run.ok()) return run.status();
    runs.push_back(*std::move(run));
  }
  // None begins before all are there.
  for (const std::unique_ptr<Run>& run : runs) {
    if (absl::Status status = run->CloseInput(); !status.ok()) return status;
  }

  Progress progress;
  std::vector<double> seconds;
  Clock::time_point last;
  for (int step = 0; step < kWarmUp + steps; ++step) {
    progress.Show(absl::StrCat("generating: step ", step, " of ", kWarmUp + steps));
    for (const std::unique_ptr<Run>& run : runs) {
      const absl::Status status = WaitForToken(*run);
      if (!status.ok()) return status;
    }
    const Clock::time_point now = Clock::now();
    if (step >= kWarmUp) seconds.push_back(std::chrono::duration<double>(now - last).count());
    last = now;
  }
  return seconds;
}

}  // namespace weir
