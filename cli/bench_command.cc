#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cli/bench_group.h"
#include "cli/bench_host_time.h"
#include "cli/bench_measurements.h"
#include "cli/bench_report.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "worker/engine/rank.h"

namespace weir {
namespace {

constexpr int kMostTokens = 1 << 30;
constexpr int kMostRanks = 64;  // threads of this process

struct Options {
  std::string model;
  std::string load_format = "gguf";
  int layers = 0;
  DeviceFlags device;
  int tensor_parallel = 1;
  int threads = 0;
  int max_sessions = 0;  // 0: as many as the measurements need
  bool json = false;
  CascadeFlags cascade;

  // What to measure; nothing asked for: kDefaultDepths.
  std::vector<int> depths;
  std::vector<int> prompts;
  std::vector<int> batches;
  int depth = 0;  // of batches; 0: a full cache
  std::optional<int> long_session;
  int steps = 64;  // of batches and of the long session
  bool fit = false;
};

constexpr int kDefaultDepths[] = {128, 512, 2048, 4096, 8000};

int SessionsNeeded(const Options& options) {
  int sessions = options.long_session ? kLongSessionSessions : 1;
  for (const int batch : options.batches) sessions = std::max(sessions, batch);
  return sessions;
}

absl::StatusOr<RankOptions> ToRankOptions(const Options& options) {
  const int needed = SessionsNeeded(options);
  if (options.max_sessions != 0 && options.max_sessions < needed) {
    return absl::InvalidArgumentError(absl::StrCat("--max-sessions is ", options.max_sessions,
                                                   "; what is measured needs ", needed));
  }
  if (options.fit && options.tensor_parallel > 1) {
    return absl::InvalidArgumentError("--fit is of one rank; leave out --tensor-parallel");
  }
  RankOptions rank;
  rank.model_path = options.model;
  rank.load_format = options.load_format;
  rank.dummy_layers = options.layers;
  rank.device = options.device.device;
  rank.gpu = options.device.gpu.value_or(0);
  rank.exact_scores = options.device.exact_scores();
  rank.tensor_parallel = options.tensor_parallel;
  rank.threads = options.threads > 0 ? options.threads
                                     : std::max(1, DefaultThreads() / options.tensor_parallel);
  rank.engine.max_sessions = std::max(options.max_sessions, needed);
  rank.engine.max_runs = std::max(rank.engine.max_runs, needed);
  rank.engine.cascade = options.cascade.ToConfig();
  return rank;
}

// The measurements that were asked for, in turn. Adds each to the report as it is made.
absl::Status Measure(const Options& options, const BenchTarget& target, BenchReport& report) {
  const auto add = [&](const auto& measured) {
    if (measured.ok()) report.Add(*measured);
    return measured.status();
  };
  // Touches weights and caches once.
  absl::Status status = MeasureDepth(target, target.cascade.stride).status();
  for (const int tokens : options.depths) {
    if (status.ok()) status = add(MeasureDepth(target, tokens));
  }
  for (const int tokens : options.prompts) {
    if (status.ok()) status = add(MeasurePrompt(target, tokens));
  }
  const int depth = options.depth > 0 ? options.depth : target.cascade.total_slots();
  for (const int sessions : options.batches) {
    if (status.ok()) status = add(MeasureBatch(target, sessions, depth, options.steps));
  }
  if (options.long_session && status.ok()) {
    status = add(MeasureLongSession(target, *options.long_session, options.steps));
  }
  return status;
}

absl::Status RunOffline(Options options) {
  if (options.depths.empty() && options.prompts.empty() && options.batches.empty() &&
      !options.long_session && !options.fit) {
    options.depths.assign(std::begin(kDefaultDepths), std::end(kDefaultDepths));
  }
  absl::StatusOr<RankOptions> rank_options = ToRankOptions(options);
  if (!rank_options.ok()) return rank_options.status();

  BenchHostTime host_time;
  rank_options->engine.observer = &host_time;
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<std::unique_ptr<BenchGroup>> group = BenchGroup::Load(*rank_options);
  if (!group.ok()) return group.status();
  const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - start;

  const Rank& leader = (*group)->leader();
  // Before the engine's thread has the device.
  const absl::StatusOr<int64_t> sessions_fit = options.fit ? (*group)->SessionsThatFit() : 0;
  if (!sessions_fit.ok()) return sessions_fit.status();
  if (absl::Status started = (*group)->Start(); !started.ok()) return started;

  const absl::StatusOr<absl::string_view> name =
      leader.file().GetStringOr("general.name", options.model);
  BenchReport report(options.json);
  const CascadeConfig& cascade = rank_options->engine.cascade;
  report.Add(BenchModel{.name = std::string(name.value_or(options.model)),
                        .device = leader.device_description(),
                        .tensor_parallel = (*group)->size(),
                        .load_s = loading.count(),
                        .session_bytes = (*group)->session_bytes(),
                        .max_sessions = rank_options->engine.max_sessions,
                        .cascade = cascade});
  if (options.fit) {
    report.Add(BenchFit{.sessions = *sessions_fit, .session_bytes = leader.session_bytes()});
  }
  return (*group)->Explain(Measure(options,
                                   {.engine = &(*group)->engine(),
                                    .host_time = &host_time,
                                    .cascade = cascade,
                                    .vocabulary = leader.model_config().vocabulary},
                                   report));
}

}  // namespace

void AddBenchCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("bench", "Measures how fast this machine runs a model.",
                           "weir bench offline --model smollm2.gguf --threads 2",
                           [] { return absl::OkStatus(); });
  app->require_subcommand(1);
  CLI::App* offline = line.AddTo(app, "offline", "Times a model inside this process, no server.",
                                 [options] { return RunOffline(*options); });
  const CLI::Range tokens(1, kMostTokens);
  offline->add_option("--model", options->model, "a model file (GGUF)")
      ->type_name("PATH")
      ->required();
  AddLoadFormat(*offline, options->load_format);
  offline->add_option("--layers", options->layers, "of a dummy, only the first so many (all)")
      ->check(CLI::Range(1, 1024));
  offline
      ->add_option("--tensor-parallel", options->tensor_parallel,
                   "ranks that share the model's heads, each on a GPU of its own or on the CPU")
      ->check(CLI::Range(1, kMostRanks))
      ->capture_default_str();
  options->device.AddTo(*offline);
  offline
      ->add_option("--threads", options->threads,
                   "threads of one rank (its share of the processors)")
      ->check(CLI::Range(1, 1024));
  offline
      ->add_option("--max-sessions", options->max_sessions,
                   "sessions to take memory for (as many as are measured)")
      ->check(CLI::Range(1, 1 << 20));
  offline->add_flag("--json", options->json, "a JSON object for each measurement, one a line");

  const std::string group = "What to measure (--depths 128 512 2048 4096 8000)";
  offline
      ->add_option("--depths", options->depths,
                   "one session: prefill of so many tokens from empty, then decode")
      ->check(tokens)
      ->group(group);
  offline->add_option("--prompts", options->prompts, "so many tokens from empty to the first token")
      ->check(tokens)
      ->group(group);
  offline->add_option("--batches", options->batches, "so many sessions that decode together")
      ->check(CLI::Range(1, 1 << 16))
      ->group(group);
  offline->add_option("--depth", options->depth, "tokens that each of those has read (full cache)")
      ->check(tokens)
      ->group(group);
  offline
      ->add_option("--long-session", options->long_session,
                   "decode after so many tokens, beside decode just past a full cache")
      ->check(tokens)
      ->group(group);
  offline->add_option("--steps", options->steps, "decode steps to time of these two")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(group);
  offline->add_flag("--fit", options->fit, "how many sessions there is memory for")->group(group);
  options->cascade.AddTo(*offline);
}

}  // namespace weir
