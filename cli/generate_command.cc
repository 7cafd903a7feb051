#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/flags.h"
#include "cli/input.h"
#include "cli/json_output.h"
#include "cli/terminal.h"
#include "worker/engine/generate_limits.h"

namespace weir {
namespace {

struct Options {
  std::string prompt;
  std::string file;
  std::string session;
  bool chat = false;
  bool json = false;
  int top_logprobs = -1;
  std::vector<std::string> stop;
  bool ignore_end_token = false;
  GenerationFlags generation;
  ConnectionFlags connection;
  CascadeFlags cascade;
};

absl::StatusOr<v1::GenerateRequest> MakeRequest(const Options& options, bool reads_file) {
  v1::GenerateRequest request;
  std::string prompt = options.prompt;
  if (prompt == "-" || (prompt.empty() && !reads_file && options.session.empty())) {
    absl::StatusOr<std::string> text = ReadText("-");
    if (!text.ok()) return text.status();
    prompt = *std::move(text);
  }
  if (!prompt.empty()) {
    if (options.chat) {
      v1::ChatMessage& message = *request.mutable_chat()->add_messages();
      message.set_role("user");
      message.set_content(prompt);
    } else {
      request.set_text(prompt);
    }
  }
  options.generation.ApplyTo(request);
  for (const std::string& stop : options.stop) request.add_stop(stop);
  request.set_ignore_end_token(options.ignore_end_token);
  if (options.top_logprobs >= 0) request.set_top_logprobs(options.top_logprobs);
  return request;
}

absl::Status Stream(Client& client, const v1::GenerateRequest& request, bool json) {
  Progress progress;
  std::string last;
  absl::Status status = client.Generate(request, [&](const v1::GenerateResponse& response) {
    if (json) {
      std::cout << ToJson(response).dump() << std::endl;
      return;
    }
    if (!response.text().empty()) {
      progress.Clear();
      last = response.text();
      std::cout << last << std::flush;
    } else if (response.tokens().empty() && last.empty() && response.input_tokens_read() > 0) {
      progress.Show(absl::StrFormat(
          "reading: %s of %s tokens, %.0f tokens/s", WithCommas(response.input_tokens_read()),
          WithCommas(response.input_tokens()), response.input_tokens_read() / progress.seconds()));
    }
  });
  if (!json && !last.empty() && last.back() != '\n') std::cout << std::endl;
  return status;
}

absl::Status Generate(const Options& options) {
  const bool reads_file = !options.file.empty();
  absl::StatusOr<v1::GenerateRequest> request = MakeRequest(options, reads_file);
  if (!request.ok()) return request.status();

  CatchInterrupts();
  absl::StatusOr<Connection> connection = Connection::Open(options.connection, options.cascade);
  if (!connection.ok()) return connection.status();
  Client& client = connection->client();

  if (options.session.empty() && !reads_file) {
    *request->mutable_cascade() = options.cascade.ToProto();
    return Stream(client, *request, options.json);
  }
  auto session = ClientSession::Take(client, options.session, options.cascade);
  if (!session.ok()) return session.status();
  request->set_session_id((*session)->id());
  if (reads_file) {
    absl::StatusOr<v1::AppendResponse> read =
        AppendText(client, request->session_id(), options.file);
    if (!read.ok()) return read.status();
  }
  return Stream(client, *request, options.json);
}

}  // namespace

void AddGenerateCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("generate", "Continues a text, or answers, and streams the result.",
                           "weir generate --model smollm2.gguf --chat 'Why is the sky blue?'",
                           [options] { return Generate(*options); });
  app->add_option("prompt", options->prompt, "the text; - or nothing: standard input");
  app->add_option("--file", options->file, "read this file first, however long; - : standard input")
      ->type_name("PATH");
  app->add_flag("--chat", options->chat, "the prompt is a user's turn in a conversation");
  app->add_option("--session", options->session, "go on in this session, and keep it")
      ->type_name("ID");
  app->add_option("--stop", options->stop, "end before this text; may be repeated")
      ->allow_extra_args(false);
  app->add_flag("--ignore-end", options->ignore_end_token, "go on past the model's end of text");
  app->add_option("--top-logprobs", options->top_logprobs,
                  "with --json: log-probabilities of the token and the N likeliest")
      ->check(CLI::Range(0, kMaxTopLogprobs))
      ->option_text("INT");
  app->add_flag("--json", options->json, "one JSON object a line, as it comes");
  options->generation.AddTo(*app);
  options->connection.AddTo(*app);
  options->cascade.AddTo(*app);
}

}  // namespace weir
