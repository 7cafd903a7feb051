#ifndef WEIR_CLI_BENCH_SESSION_H_
#define WEIR_CLI_BENCH_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cascade_config.h"
#include "worker/engine/engine.h"

namespace weir {

// A session that `weir bench` times: it reads tokens that are no text (speed does not depend on
// which) and generates as many as it is told. Everything takes as long as the engine does; where
// standard error is a terminal, it shows how far it is. One thread.
class BenchSession {
 public:
  // `engine` outlives the session; `vocabulary` is the model's.
  static absl::StatusOr<std::unique_ptr<BenchSession>> Open(Engine* engine, std::string id,
                                                            const CascadeConfig& cascade,
                                                            int vocabulary);
  ~BenchSession();
  BenchSession(const BenchSession&) = delete;
  BenchSession& operator=(const BenchSession&) = delete;

  // Reads so many more tokens. Returns the seconds that it took.
  absl::StatusOr<double> Read(int64_t tokens);
  // Reads so many more tokens and generates one. Returns the seconds until that came.
  absl::StatusOr<double> ReadToFirstToken(int64_t tokens);

 private:
  friend absl::StatusOr<std::vector<double>> GenerateTogether(
      absl::Span<const std::unique_ptr<BenchSession>> sessions, int steps);

  BenchSession(Engine* engine, std::string id, int vocabulary);

  // Gives a run so many more tokens; the seconds until it told of an event of this kind.
  absl::StatusOr<double> SecondsToRead(const RunOptions& options, int64_t tokens,
                                       RunEvent::Kind until);

  Engine* const engine_;
  const std::string id_;
  const int vocabulary_;
  int64_t fed_ = 0;  // tokens so far
};

// Lets all sessions generate at the same time, one token each in every step. Returns the seconds
// between a step and the next, of `steps` steps, after a few to get going. At least one session,
// each of which has read something.
absl::StatusOr<std::vector<double>> GenerateTogether(
    absl::Span<const std::unique_ptr<BenchSession>> sessions, int steps);

}  // namespace weir

#endif  // WEIR_CLI_BENCH_SESSION_H_
