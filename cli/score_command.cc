#include <cmath>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/terminal.h"

namespace weir {
namespace {

struct Options {
  std::string text;
  std::string file;
  std::string session;
  bool json = false;
  ConnectionFlags connection;
  CascadeFlags cascade;
};

absl::Status Run(const Options& options) {
  v1::ScoreRequest request;
  if (options.text.empty() || !options.file.empty()) {
    absl::StatusOr<std::string> text = ReadText(options.file.empty() ? "-" : options.file);
    if (!text.ok()) return text.status();
    request.set_text(*std::move(text));
  } else {
    request.set_text(options.text);
  }
  request.set_session_id(options.session);
  if (options.session.empty()) *request.mutable_cascade() = options.cascade.ToProto();

  CatchInterrupts();
  absl::StatusOr<Connection> connection = Connection::Open(options.connection, options.cascade);
  if (!connection.ok()) return connection.status();
  Progress progress;
  int64_t tokens = 0;
  int64_t scored = 0;
  double sum = 0;
  absl::Status status = connection->client().Score(request, [&](const v1::ScoreResponse& response) {
    for (const v1::TokenLogprob& token : response.tokens()) {
      ++tokens;
      if (token.has_logprob()) {
        ++scored;
        sum += token.logprob();
      }
      if (options.json) std::cout << ToJson(token).dump() << "\n";
    }
    progress.Show(absl::StrFormat("scoring: %s of %s tokens, %.0f tokens/s", WithCommas(tokens),
                                  WithCommas(response.tokens_total()),
                                  tokens / progress.seconds()));
  });
  progress.Clear();
  if (!status.ok()) return status;
  if (!options.json) {
    std::cout << absl::StrFormat("%d tokens, mean log-probability %.4f, perplexity %.3f\n", tokens,
                                 scored > 0 ? sum / scored : 0.0,
                                 scored > 0 ? std::exp(-sum / scored) : 1.0);
  }
  return absl::OkStatus();
}

}  // namespace

void AddScoreCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("score", "Tells how probable a model finds every token of a text.",
                           "weir score --model smollm2.gguf --file chapter.txt --json",
                           [options] { return Run(*options); });
  CLI::Option* text = app->add_option("text", options->text, "the text; nothing: standard input");
  app->add_option("--file", options->file, "the text is in this file; - : standard input")
      ->type_name("PATH")
      ->excludes(text);
  app->add_option("--session", options->session, "go on in this session")->type_name("ID");
  app->add_flag("--json", options->json, "a JSON object for every token, one a line");
  options->connection.AddTo(*app);
  options->cascade.AddTo(*app);
}

}  // namespace weir
