#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "nlohmann/json.hpp"
#include "worker/comm/single_communicator.h"
#include "worker/engine/rank.h"

namespace weir {
namespace {

struct Options {
  std::string model;
  std::vector<int> depths = {128, 512, 2048, 4096, 8000};
  int threads = 0;
  bool json = false;
  CascadeFlags cascade;
};

struct Speed {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
};

constexpr char kSession[] = "bench";

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Some tokens that are no text; speed does not depend on which.
std::vector<int32_t> Tokens(int count, int vocabulary) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) {
    tokens[i] = static_cast<int32_t>((int64_t{7919} * i + 100) % vocabulary);
  }
  return tokens;
}

absl::StatusOr<double> SecondsToRead(Engine& engine, const std::vector<int32_t>& tokens) {
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<std::unique_ptr<Run>> run =
      engine.StartRun(kSession, {.kind = RunKind::kAppend, .cancelled = [] { return false; }});
  if (!run.ok()) return run.status();
  absl::Status status = (*run)->Feed(tokens);
  if (status.ok()) status = (*run)->CloseInput();
  if (!status.ok()) return status;
  while (true) {
    absl::StatusOr<RunEvent> event = (*run)->Next();
    if (!event.ok()) return event.status();
    if (event->kind == RunEvent::Kind::kFinished) return SecondsSince(start);
  }
}

// Of one step of one token, after the first: that one comes from logits which are there already.
absl::StatusOr<double> SecondsPerToken(Engine& engine, int steps) {
  RunOptions options{.kind = RunKind::kGenerate, .cancelled = [] { return false; }};
  options.generate.max_tokens = steps + 1;
  options.generate.ignore_end_token = true;
  absl::StatusOr<std::unique_ptr<Run>> run = engine.StartRun(kSession, options);
  if (!run.ok()) return run.status();
  const absl::Status closed = (*run)->CloseInput();
  if (!closed.ok()) return closed;
  std::chrono::steady_clock::time_point first, last;
  int tokens = 0;
  while (true) {
    absl::StatusOr<RunEvent> event = (*run)->Next();
    if (!event.ok()) return event.status();
    if (event->kind == RunEvent::Kind::kToken) {
      last = std::chrono::steady_clock::now();
      if (tokens++ == 0) first = last;
    }
    if (event->kind == RunEvent::Kind::kFinished) break;
  }
  return std::chrono::duration<double>(last - first).count() / (tokens - 1);
}

absl::StatusOr<Speed> Measure(Engine& engine, const CascadeConfig& cascade, int depth,
                              int vocabulary) {
  absl::Status opened = engine.OpenSession(kSession, cascade);
  if (!opened.ok()) return opened;
  absl::StatusOr<double> reading = SecondsToRead(engine, Tokens(depth, vocabulary));
  if (!reading.ok()) return reading.status();
  absl::StatusOr<double> decoding = SecondsPerToken(engine, depth > 4096 ? 32 : 64);
  if (!decoding.ok()) return decoding.status();
  const absl::Status closed = engine.CloseSession(kSession);
  if (!closed.ok()) return closed;
  return Speed{.prefill_tokens_per_s = depth / *reading, .decode_tokens_per_s = 1 / *decoding};
}

absl::Status RunOffline(const Options& options) {
  RankOptions rank_options;
  rank_options.model_path = options.model;
  rank_options.threads = options.threads > 0 ? options.threads : DefaultThreads();
  rank_options.engine.max_sessions = 1;
  rank_options.engine.cascade = options.cascade.ToConfig();
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<std::unique_ptr<Rank>> rank = Rank::Load(rank_options);
  if (!rank.ok()) return rank.status();
  const double load_seconds = SecondsSince(start);
  const std::unique_ptr<Communicator> communicator = MakeSingleCommunicator();
  absl::StatusOr<std::unique_ptr<Engine>> engine = (*rank)->StartEngine(communicator.get());
  if (!engine.ok()) return engine.status();
  const int vocabulary = (*rank)->model_config().vocabulary;

  // Touches weights and caches once.
  absl::StatusOr<Speed> warm = Measure(**engine, rank_options.engine.cascade,
                                       rank_options.engine.cascade.stride, vocabulary);
  if (!warm.ok()) return warm.status();
  if (!options.json) {
    std::cout << absl::StrFormat("%s, loaded in %.2f s\n%10s  %18s  %18s\n",
                                 (*rank)->device_description(), load_seconds, "tokens",
                                 "prefill, tokens/s", "decode, tokens/s");
  }
  for (int depth : options.depths) {
    absl::StatusOr<Speed> speed = Measure(**engine, rank_options.engine.cascade, depth, vocabulary);
    if (!speed.ok()) return speed.status();
    if (options.json) {
      const nlohmann::ordered_json line = {{"tokens", depth},
                                           {"prefill_tokens_per_s", speed->prefill_tokens_per_s},
                                           {"decode_tokens_per_s", speed->decode_tokens_per_s},
                                           {"load_s", load_seconds},
                                           {"device", (*rank)->device_description()}};
      std::cout << line.dump() << std::endl;
    } else {
      std::cout << absl::StrFormat("%10d  %18.1f  %18.1f\n", depth, speed->prefill_tokens_per_s,
                                   speed->decode_tokens_per_s)
                << std::flush;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("bench", "Measures how fast this machine runs a model.",
                           "weir bench offline --model smollm2.gguf --threads 2",
                           [] { return absl::OkStatus(); });
  app->require_subcommand(1);
  CLI::App* offline =
      line.AddTo(app, "offline", "One session, no server: prefill from empty, then decode.",
                 [options] { return RunOffline(*options); });
  offline->add_option("--model", options->model, "a model file")->type_name("PATH")->required();
  offline->add_option("--depths", options->depths, "tokens to read before decoding (128 ... 8000)")
      ->check(CLI::Range(1, 1 << 30));
  offline->add_option("--threads", options->threads, "threads (all processors)");
  offline->add_flag("--json", options->json, "a JSON object for each depth, one a line");
  options->cascade.AddTo(*offline);
}

}  // namespace weir
