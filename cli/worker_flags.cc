#include "cli/worker_flags.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace weir {

void WorkerFlags::AddTo(CLI::App& app) {
  app.add_option("--model", model, "a model file (GGUF)")->type_name("PATH")->required();
  AddLoadFormat(app, load_format);
  app.add_option("--tensor-parallel", tensor_parallel, "workers that share the model's heads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--threads", threads, "threads of one worker (its share of the processors)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--max-sessions", max_sessions, "sessions at once; their memory is taken at start")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--token-gap-ms", token_gap_ms,
                 "milliseconds that others' prompts may keep an answer from its next token")
      ->check(CLI::Range(0, 60000))
      ->capture_default_str();
  device.AddTo(app);
  cascade.AddTo(app);
}

int WorkerFlags::ThreadsOrShare() const {
  return threads > 0 ? threads : std::max(1, DefaultThreads() / tensor_parallel);
}

WorkerOptions WorkerFlags::ToOptions() const {
  WorkerOptions options;
  options.model_path = model;
  options.load_format = load_format;
  options.threads = ThreadsOrShare();
  options.tensor_parallel = tensor_parallel;
  options.max_sessions = max_sessions;
  options.device = device.device;
  options.gpu = device.gpu;
  options.exact_scores = device.exact_scores();
  options.token_gap = absl::Milliseconds(token_gap_ms);
  options.cascade = cascade.ToConfig();
  return options;
}

std::vector<std::string> WorkerFlags::ToArguments(int rank) const {
  const CascadeConfig config = cascade.ToConfig();
  return {
      "worker",
      absl::StrCat("--model=", model),
      absl::StrCat("--load-format=", load_format),
      absl::StrCat("--tensor-parallel=", tensor_parallel),
      absl::StrCat("--threads=", ThreadsOrShare()),
      absl::StrCat("--max-sessions=", max_sessions),
      absl::StrCat("--token-gap-ms=", token_gap_ms),
      absl::StrCat("--rank=", rank),
      absl::StrCat("--device=", device.device),
      absl::StrCat("--gpu=", device.gpu.value_or(0) + rank),
      absl::StrCat("--scores=", device.scores),
      "--port=0",
      "--metrics-port=0",
      absl::StrCat("--sinks=", config.sinks),
      absl::StrCat("--slots=", config.slots),
      absl::StrCat("--sub-caches=", config.sub_caches),
      absl::StrCat("--stride=", config.stride),
      absl::StrFormat("--beta=%.17g", config.beta),
      absl::StrCat("--head-reduction=",
                   config.head_reduction == HeadReduction::kMax ? "max" : "mean"),
  };
}

}  // namespace weir
