#include "worker/service/tokenize.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {

absl::StatusOr<v1::TokenizeResponse> Tokenize(const Tokenizer& tokenizer,
                                              const v1::TokenizeRequest& request) {
  const absl::StatusOr<std::vector<int32_t>> tokens =
      tokenizer.Encode(request.text(), {.parse_special = request.parse_special()});
  if (!tokens.ok()) return tokens.status();
  v1::TokenizeResponse response;
  response.mutable_tokens()->Assign(tokens->begin(), tokens->end());
  for (const int32_t token : *tokens) {
    response.add_token_bytes(std::string(tokenizer.TokenBytes(token)));
  }
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const Tokenizer& tokenizer,
                                                  const v1::DetokenizeRequest& request) {
  for (int i = 0; i < request.tokens_size(); ++i) {
    if (!tokenizer.IsToken(request.tokens(i))) {
      return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", request.tokens(i),
                                                     "; the model has tokens 0 to ",
                                                     tokenizer.vocabulary_size() - 1));
    }
  }
  absl::StatusOr<std::string> text =
      tokenizer.Decode(absl::MakeConstSpan(request.tokens().data(), request.tokens_size()));
  if (!text.ok()) return text.status();
  v1::DetokenizeResponse response;
  response.set_text(*std::move(text));
  return response;
}

}  // namespace weir
