#ifndef WEIR_WORKER_ENGINE_RUN_H_
#define WEIR_WORKER_ENGINE_RUN_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int top_k = 0;           // 0: all; at most kMaxTopK
  double top_p = 1;        // (0, 1]; without top_k, looked for among the kMostLikeliest tokens
  uint64_t seed = 0;       // same seed, same tokens
};

struct GenerateOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 0;         // 0: until something else stops it
  std::vector<std::string> stop;  // texts; not part of the output
  bool ignore_end_token = false;  // go on past the model's end-of-text tokens
  // Log-probabilities of the token and of this many likeliest ones; not set: none.
  std::optional<int> top_logprobs;
};

enum class RunKind {
  kAppend,    // read the input into the session
  kGenerate,  // read the input, if any, then generate
  kScore,     // read the input and report the log-probability of each of its tokens
};

struct RunOptions {
  RunKind kind = RunKind::kAppend;
  GenerateOptions generate;
  // Asked every step on the engine's thread; true ends the run with CANCELLED. Cheap, thread-safe.
  // May be asked for a moment after the Run was destroyed.
  std::function<bool()> cancelled;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

enum class FinishReason { kMaxTokens, kEndToken, kStopText, kInputRead };

// What a run tells its caller, in order. The last event is kFinished.
struct RunEvent {
  enum class Kind { kProgress, kScores, kToken, kFinished } kind = Kind::kProgress;

  int64_t tokens_read = 0;  // kProgress, kFinished: input tokens of this run read so far

  // kScores: log-probability of each input token given all before it, in order; NaN for a token
  // with nothing before it. Batches of a chunk; tokens in the same order as fed.
  std::vector<TokenLogprob> scores;

  // kToken. `text` is valid UTF-8, may be empty (a character or a possible stop text is not
  // complete yet) or hold the text of several tokens. Special tokens, the end token among them,
  // have no text. `logprob` and `top_logprobs` are set if GenerateOptions.top_logprobs asks for
  // them.
  int32_t token = 0;
  std::string text;
  float logprob = 0;
  std::vector<TokenLogprob> top_logprobs;

  // kFinished. `text` holds what was held back and is still due.
  FinishReason reason = FinishReason::kInputRead;
  int64_t tokens_generated = 0;
};

// One running call on a session, held by the thread that serves the call. Destroying it cancels
// what is left: a generation stops where it is; an append keeps what was fed, so that it can go on;
// what a kGenerate or kScore run was fed and has not read is dropped.
//
// Input is cut into chunks of `stride` tokens from the start of the text, whenever it is fed and by
// however many runs: an append that broke off goes on in the next kAppend run of the session; a
// run of another kind first reads what is left of it as the end of that text.
// One thread may be in Feed or CloseInput while another is in Next.
class Run {
 public:
  virtual ~Run() = default;

  // Adds tokens to the text: all of them or, on an error, none. A kAppend run blocks while a few
  // chunks wait already; other runs never block here, so a caller may feed first and read then.
  // CANCELLED or the run's error.
  virtual absl::Status Feed(absl::Span<const int32_t> tokens) = 0;
  // The text is whole: its last tokens, short of a chunk, are read too.
  virtual absl::Status CloseInput() = 0;
  // The next event; blocks. An error ends the run: CANCELLED, UNAVAILABLE (group lost),
  // FAILED_PRECONDITION (nothing to generate from: no input, and the session has read nothing).
  // After kFinished: OUT_OF_RANGE. While 64 events wait, the run pauses; kProgress never does that:
  // a later one replaces one that waits.
  virtual absl::StatusOr<RunEvent> Next() = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_RUN_H_
