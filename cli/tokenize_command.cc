#include <iostream>
#include <memory>
#include <string>

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
  bool special = false;
  bool json = false;
  ConnectionFlags connection;
};

absl::Status Run(const Options& options) {
  v1::TokenizeRequest request;
  absl::StatusOr<std::string> text =
      options.text.empty() || options.text == "-" ? ReadText("-") : options.text;
  if (!text.ok()) return text.status();
  request.set_text(*std::move(text));
  request.set_parse_special(options.special);

  CatchInterrupts();
  absl::StatusOr<Connection> connection = Connection::Open(options.connection, {});
  if (!connection.ok()) return connection.status();
  absl::StatusOr<v1::TokenizeResponse> response = connection->client().Tokenize(request);
  if (!response.ok()) return response.status();
  for (int i = 0; i < response->tokens_size(); ++i) {
    v1::TokenLogprob token;
    token.set_token(response->tokens(i));
    token.set_token_bytes(response->token_bytes(i));
    nlohmann::ordered_json json = ToJson(token);
    json.erase("logprob");
    std::cout << (options.json ? json.dump()
                               : std::to_string(token.token()) + "\t" + json["text"].dump())
              << "\n";
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenizeCommand(CommandLine& line) {
  auto options = std::make_shared<Options>();
  CLI::App* app = line.Add("tokenize", "Shows the tokens that a model splits a text into.",
                           "weir tokenize --model smollm2.gguf 'Hello, world'",
                           [options] { return Run(*options); });
  app->add_option("text", options->text, "the text; - or nothing: standard input");
  app->add_flag("--special", options->special, "read special tokens in the text as such");
  app->add_flag("--json", options->json, "a JSON object for every token, one a line");
  options->connection.AddTo(*app);
}

}  // namespace weir
