// One session generates a million tokens with a small random model, in this process: what does the
// last token cost beside the first past a full cache? Run it on an idle machine.
//
//   soak                              prints a table and a verdict
//   soak --write-model PATH           only writes the model, for soak_serve

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"
#include "tests/testing/resident_memory.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/rank.h"

namespace weir {
namespace {

constexpr NaiveLlamaConfig kModel = {.layers = 4,
                                     .hidden = 64,
                                     .heads = 4,
                                     .kv_heads = 2,
                                     .head_dim = 32,
                                     .ffn = 128,
                                     .vocabulary = kLeastVocabulary};

struct Options {
  std::string write_model;
  int64_t tokens = 1'000'000;
  int threads = 1;
  CascadeConfig cascade;
};

void WriteModel(const std::string& path) {
  MakeLlamaGguf(MakeRandomModel(kModel, 1)).WriteFile(path);
}

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(1);
}

void OrDie(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// Keeps the times between the tokens of one session's generations. Its memory is all touched at the
// start, so that it does not grow while the session does.
class TokenTimes {
 public:
  explicit TokenTimes(int64_t tokens) : seconds_(tokens, 0) {}

  void Add(double seconds) { seconds_[count_++] = static_cast<float>(seconds); }
  int64_t count() const { return count_; }

  // Microseconds that `quantile` of the times in [begin, end) are below.
  double Quantile(double quantile, int64_t begin, int64_t end) const {
    std::vector<float> part(seconds_.begin() + begin, seconds_.begin() + end);
    const auto at = part.begin() + static_cast<int64_t>(quantile * (end - begin));
    std::nth_element(part.begin(), at, part.end());
    return *at * 1e6;
  }

 private:
  std::vector<float> seconds_;
  int64_t count_ = 0;
};

// Hears of all tokens; says for which session they are.
class TokenTimesObserver : public EngineObserver {
 public:
  // No run is in progress.
  void set_target(TokenTimes* target) { target_ = target; }

  void OnStepPhase(StepPhase phase, absl::Duration time) override {}
  void OnQueueTime(absl::Duration time) override {}
  void OnFirstToken(absl::Duration time) override {}
  void OnNextToken(absl::Duration time) override { target_->Add(absl::ToDoubleSeconds(time)); }
  void OnRunEnd(RunKind kind, absl::StatusCode code, absl::Duration time) override {}

 private:
  TokenTimes* target_ = nullptr;
};

// Generates `tokens` tokens; calls `every` with their number so far.
void Generate(Engine& engine, const std::string& id, int64_t tokens,
              const std::function<void(int64_t)>& every) {
  RunOptions options;
  options.kind = RunKind::kGenerate;
  options.generate.sampling.temperature = 1;
  options.generate.max_tokens = tokens;
  options.generate.ignore_end_token = true;
  const std::unique_ptr<Run> run = OrDie(engine.StartRun(id, options));
  OrDie(run->Feed({0}));
  OrDie(run->CloseInput());
  int64_t generated = 0;
  while (true) {
    const RunEvent event = OrDie(run->Next());
    if (event.kind == RunEvent::Kind::kFinished) return;
    if (event.kind == RunEvent::Kind::kToken) every(++generated);
  }
}

void Compare(const char* what, double before, double after) {
  std::printf("%-54s %8.2f us %8.2f us %+7.2f %%\n", what, before, after,
              100 * (after / before - 1));
}

void Soak(const Options& options) {
  const std::string path = "/tmp/weir_soak_" + std::to_string(getpid()) + ".gguf";
  WriteModel(path);
  TokenTimesObserver observer;
  RankOptions rank_options;
  rank_options.model_path = path;
  rank_options.threads = options.threads;
  rank_options.engine.max_sessions = 2;
  rank_options.engine.cascade = options.cascade;
  rank_options.engine.observer = &observer;
  const std::unique_ptr<Rank> rank = OrDie(Rank::Load(rank_options));
  std::remove(path.c_str());
  const std::unique_ptr<Communicator> communicator = MakeSingleCommunicator();
  const std::unique_ptr<Engine> engine = OrDie(rank->StartEngine(communicator.get()));

  OrDie(engine->OpenSession("old", options.cascade));
  TokenTimes old_times(options.tokens);
  observer.set_target(&old_times);
  const int64_t percent = options.tokens / 100;
  int64_t resident_bytes_at_5_percent = 0;
  std::printf("%10s %14s %14s\n", "tokens", "resident", "slots filled");
  Generate(*engine, "old", options.tokens, [&](int64_t tokens) {
    if (tokens == 5 * percent) resident_bytes_at_5_percent = ResidentBytes();
    if (tokens % (10 * percent) != 0 && tokens != 5 * percent) return;
    std::printf("%10ld %10.2f MiB %14ld\n", tokens, ResidentBytes() / 1048576.0,
                OrDie(engine->Describe("old")).tokens_cached);
    std::fflush(stdout);
  });
  std::printf("resident memory from 5 %% to the end: %+.3f MiB\n",
              (ResidentBytes() - resident_bytes_at_5_percent) / 1048576.0);

  const int64_t full = options.cascade.total_slots();
  const int64_t end = old_times.count();
  std::printf("%-54s %11s %11s\n", "time between tokens", "first %", "last %");
  Compare("first percent past a full cache, last: median",
          old_times.Quantile(0.5, full, full + percent),
          old_times.Quantile(0.5, end - percent, end));
  Compare("first percent past a full cache, last: fastest tenth",
          old_times.Quantile(0.1, full, full + percent),
          old_times.Quantile(0.1, end - percent, end));

  // On a machine that is not idle: the old session and a new one in short turns, so that whatever
  // slows one slows the other.
  OrDie(engine->OpenSession("new", options.cascade));
  TokenTimes filling(full + 1);
  observer.set_target(&filling);
  Generate(*engine, "new", full + 1, [](int64_t) {});
  TokenTimes turns[] = {TokenTimes(percent), TokenTimes(percent)};
  constexpr int kTurn = 50;
  for (int64_t tokens = 0; tokens + kTurn <= percent; tokens += kTurn) {
    observer.set_target(&turns[0]);
    Generate(*engine, "new", kTurn, [](int64_t) {});
    observer.set_target(&turns[1]);
    Generate(*engine, "old", kTurn, [](int64_t) {});
  }
  const auto quantile = [&](int session, double quantile) {
    return turns[session].Quantile(quantile, 0, turns[session].count());
  };
  Compare("a new session with a full cache, the old one: median", quantile(0, 0.5),
          quantile(1, 0.5));
  Compare("the same: fastest tenth", quantile(0, 0.1), quantile(1, 0.1));
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  weir::Options options;
  options.cascade = {.sinks = 64, .slots = 1024, .sub_caches = 4, .stride = 256};
  CLI::App app("A session of a million generated tokens.");
  app.add_option("--write-model", options.write_model, "only write the model to this file");
  app.add_option("--tokens", options.tokens, "to generate")->check(CLI::Range(200'000, 1 << 30));
  app.add_option("--threads", options.threads, "that compute");
  app.add_option("--slots", options.cascade.slots, "of the session's cache")
      ->check(CLI::Range(4, 1024));
  CLI11_PARSE(app, argc, argv);
  if (!options.write_model.empty()) {
    weir::WriteModel(options.write_model);
    return 0;
  }
  weir::Soak(options);
}
