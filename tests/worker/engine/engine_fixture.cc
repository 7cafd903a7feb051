#include "tests/worker/engine/engine_fixture.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "gtest/gtest.h"
#include "worker/comm/in_process_group.h"
#include "worker/comm/single_communicator.h"

namespace weir {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

TestGroup::TestGroup(RankOptions options) {
  for (int rank = 0; rank < options.tensor_parallel; ++rank) {
    options.rank = rank;
    ranks_.push_back(OrDie(Rank::Load(options)));
  }
  FormAgain();
}

TestGroup::~TestGroup() { engines_.clear(); }

void TestGroup::FormAgain() {
  engines_.clear();
  communicators_.clear();
  if (ranks_.size() == 1) {
    communicators_.push_back(MakeSingleCommunicator());
  } else {
    communicators_ = MakeInProcessGroup(static_cast<int>(ranks_.size()));
  }
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    engines_.push_back(OrDie(ranks_[rank]->StartEngine(communicators_[rank].get())));
  }
}

std::string WriteModel(const NaiveLlamaModel& model, const std::string& name,
                       const LlamaGgufOptions& options) {
  const std::string path = testing::TempDir() + "/" + name + ".gguf";
  MakeLlamaGguf(model, options).WriteFile(path);
  return path;
}

RunResult Collect(Run& run) {
  RunResult result;
  while (true) {
    absl::StatusOr<RunEvent> event = run.Next();
    if (!event.ok()) {
      result.status = event.status();
      return result;
    }
    switch (event->kind) {
      case RunEvent::Kind::kProgress:
        result.tokens_read = event->tokens_read;
        break;
      case RunEvent::Kind::kScores:
        result.scores.insert(result.scores.end(), event->scores.begin(), event->scores.end());
        break;
      case RunEvent::Kind::kToken:
        result.tokens.push_back(event->token);
        result.logprobs.push_back(event->logprob);
        result.top.push_back(event->top_logprobs);
        result.text += event->text;
        break;
      case RunEvent::Kind::kFinished:
        result.tokens_read = event->tokens_read;
        result.text += event->text;
        result.reason = event->reason;
        result.tokens_generated = event->tokens_generated;
        return result;
    }
  }
}

RunResult RunToEnd(Engine& engine, const std::string& id, const RunOptions& options,
                   absl::Span<const int32_t> input) {
  RunResult result;
  absl::StatusOr<std::unique_ptr<Run>> run = engine.StartRun(id, options);
  result.status = run.status();
  if (result.status.ok()) result.status = (*run)->Feed(input);
  if (result.status.ok()) result.status = (*run)->CloseInput();
  return result.status.ok() ? Collect(**run) : result;
}

RunResult Append(Engine& engine, const std::string& id, absl::Span<const int32_t> input) {
  return RunToEnd(engine, id, {.kind = RunKind::kAppend}, input);
}

RunResult Score(Engine& engine, const std::string& id, absl::Span<const int32_t> input) {
  return RunToEnd(engine, id, {.kind = RunKind::kScore}, input);
}

RunResult Generate(Engine& engine, const std::string& id, const GenerateOptions& options,
                   absl::Span<const int32_t> input) {
  return RunToEnd(engine, id, {.kind = RunKind::kGenerate, .generate = options}, input);
}

GenerateOptions ExactlyTokens(int64_t tokens, double temperature, uint64_t seed) {
  GenerateOptions options;
  options.sampling.temperature = temperature;
  options.sampling.seed = seed;
  options.max_tokens = tokens;
  options.ignore_end_token = true;
  options.top_logprobs = 3;
  return options;
}

}  // namespace weir
