#ifndef WEIR_WORKER_ENGINE_GENERATION_H_
#define WEIR_WORKER_ENGINE_GENERATION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/likeliest_merge.h"
#include "worker/engine/run.h"
#include "worker/engine/stop_matcher.h"
#include "worker/model/text_stream.h"
#include "worker/model/tokenizer.h"

namespace weir {

// One run's generation, token by token: chooses tokens, turns them into text and knows when it is
// over. Special tokens have no text. Not thread-safe.
class Generation {
 public:
  // Options that passed ValidateGenerateOptions; `tokenizer` outlives this object.
  Generation(const GenerateOptions& options, const Tokenizer* tokenizer);

  struct Outcome {
    RunEvent token;                    // kToken
    std::optional<RunEvent> finished;  // kFinished, without tokens_read
  };
  // Takes what RequestFor asked for of the logits of the next token, which comes at stream index
  // `index`; not called after an outcome that is finished. INTERNAL: see ChooseToken.
  absl::StatusOr<Outcome> Next(const LogitsSummary& summary, int64_t index);

  int64_t tokens_generated() const { return tokens_generated_; }

 private:
  GenerateOptions options_;
  const Tokenizer* tokenizer_;
  TextStream text_;
  StopMatcher stop_;
  int64_t tokens_generated_ = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_GENERATION_H_
