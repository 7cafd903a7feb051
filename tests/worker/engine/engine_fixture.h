#ifndef WEIR_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_
#define WEIR_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/naive_llama.h"
#include "worker/comm/communicator.h"
#include "worker/engine/engine.h"
#include "worker/engine/rank.h"

namespace weir {

// A group of ranks in this process that serves one model file; the test ends if it does not start.
class TestGroup {
 public:
  explicit TestGroup(RankOptions options);
  ~TestGroup();

  Engine& leader() { return *engines_[0]; }
  // Rank 1 and up.
  Engine& engine(int rank) { return *engines_[rank]; }
  const Rank& rank(int rank) const { return *ranks_[rank]; }

  // Destroys one rank's engine.
  void StopEngine(int rank) { engines_[rank].reset(); }
  // Destroys all engines and starts new ones, as when a group forms again.
  void FormAgain();

 private:
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

// Writes the model as a file into the test's own folder and returns its path.
std::string WriteModel(const NaiveLlamaModel& model, const std::string& name,
                       const LlamaGgufOptions& options = {});

// What a run told, put together.
struct RunResult {
  absl::Status status;  // OK: it finished
  int64_t tokens_read = 0;
  std::vector<TokenLogprob> scores;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  std::string text;
  FinishReason reason = FinishReason::kInputRead;
  int64_t tokens_generated = 0;
};

// Reads events until the run is over.
RunResult Collect(Run& run);

// One run from start to end, its input fed at once.
RunResult RunToEnd(Engine& engine, const std::string& id, const RunOptions& options,
                   absl::Span<const int32_t> input = {});

RunResult Append(Engine& engine, const std::string& id, absl::Span<const int32_t> input);
RunResult Score(Engine& engine, const std::string& id, absl::Span<const int32_t> input);
RunResult Generate(Engine& engine, const std::string& id, const GenerateOptions& options,
                   absl::Span<const int32_t> input = {});

// Greedy or seeded generation of exactly `tokens` tokens with log-probabilities.
GenerateOptions ExactlyTokens(int64_t tokens, double temperature = 0, uint64_t seed = 0);

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_ENGINE_ENGINE_FIXTURE_H_
