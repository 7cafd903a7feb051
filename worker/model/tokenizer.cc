#include "worker/model/tokenizer.h"

#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "worker/model/byte_level.h"
#include "worker/model/streaming_encoder.h"
#include "worker/model/utf8.h"

namespace weir {
namespace {

constexpr absl::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr absl::string_view kTokenTypeKey = "tokenizer.ggml.token_type";
constexpr absl::string_view kMergesKey = "tokenizer.ggml.merges";

// Values of tokenizer.ggml.token_type.
constexpr int64_t kControlToken = 3;
constexpr int64_t kUserDefinedToken = 4;

// Special tokens that end a generation in the models that have them, whether or not the file says
// so: few files name more than one end token, and models use several.
constexpr absl::string_view kEndTokenNames[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>",
                                                "<|end_of_text|>", "</s>"};

using Vocabulary = absl::flat_hash_map<absl::string_view, int32_t>;

// Vocabulary entries by the text that the file gives them.
absl::StatusOr<Vocabulary> IndexVocabulary(const GgufFile& file) {
  const auto tokens = file.GetStringArray(kTokensKey);
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty() || tokens->size() > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": the vocabulary has ",
                                                   tokens->size(), " tokens; 1 to 2^31 - 1 fit"));
  }
  Vocabulary vocabulary;
  vocabulary.reserve(tokens->size());
  for (const absl::string_view token : *tokens) {
    const int32_t number = static_cast<int32_t>(vocabulary.size());
    if (token.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": token ", number, " of the vocabulary is empty"));
    }
    if (!vocabulary.emplace(token, number).second) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": token ", number,
                                                     " of the vocabulary, ", QuoteName(token),
                                                     ", is there twice"));
    }
  }
  return vocabulary;
}

absl::Status CheckKind(const GgufFile& file) {
  const auto model = file.GetString("tokenizer.ggml.model");
  if (!model.ok()) return model.status();
  if (*model != "gpt2") {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), " has a tokenizer of kind ", QuoteName(*model),
                     ", which Weir does not support; it supports 'gpt2'"));
  }
  const auto pre_tokenizer = file.GetStringOr("tokenizer.ggml.pre", "default");
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  if (*pre_tokenizer != "smollm") {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), " has the pre-tokenizer ", QuoteName(*pre_tokenizer),
                     ", which Weir does not support; it supports 'smollm'"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufFile& file) {
  if (absl::Status status = CheckKind(file); !status.ok()) return status;
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  if (absl::Status status = tokenizer->LoadTokens(file); !status.ok()) return status;
  if (absl::Status status = tokenizer->LoadMerges(file); !status.ok()) return status;
  if (absl::Status status = tokenizer->LoadNamedTokens(file); !status.ok()) return status;
  return tokenizer;
}

absl::Status Tokenizer::LoadTokens(const GgufFile& file) {
  const auto texts = file.GetStringArray(kTokensKey);
  if (!texts.ok()) return texts.status();
  std::vector<int64_t> types;
  if (file.Has(kTokenTypeKey)) {
    auto read = file.GetIntArray(kTokenTypeKey);
    if (!read.ok()) return read.status();
    types = *std::move(read);
    if (types.size() != texts->size()) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", kTokenTypeKey, " has ",
                                                     types.size(), " entries for ", texts->size(),
                                                     " tokens"));
    }
  }
  tokens_.reserve(texts->size());
  for (size_t i = 0; i < texts->size(); ++i) {
    const absl::string_view text = (*texts)[i];
    const bool special =
        !types.empty() && (types[i] == kControlToken || types[i] == kUserDefinedToken);
    tokens_.push_back({special ? std::string(text) : ByteLevelBytes(text), special});
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::LoadMerges(const GgufFile& file) {
  const auto vocabulary = IndexVocabulary(file);
  if (!vocabulary.ok()) return vocabulary.status();
  const auto find = [&](absl::string_view text) {
    const auto found = vocabulary->find(text);
    return found == vocabulary->end() ? -1 : found->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    encoding_.SetByteToken(static_cast<uint8_t>(byte),
                           find(ByteLevelCharacter(static_cast<uint8_t>(byte))));
  }
  for (const auto& [text, token] : *vocabulary) {
    if (tokens_[token].special) special_tokens_.Add(text, token);
  }
  const auto merges = file.GetStringArray(kMergesKey);
  if (!merges.ok()) return merges.status();
  for (size_t i = 0; i < merges->size(); ++i) {
    const absl::string_view merge = (*merges)[i];
    const size_t space = merge.find(' ');
    const auto fail = [&](absl::string_view reason) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": merge ", i, ", ", QuoteName(merge), ", ", reason));
    };
    if (space == absl::string_view::npos) return fail("is not two tokens with a space between");
    const absl::string_view left = merge.substr(0, space);
    const absl::string_view right = merge.substr(space + 1);
    const int32_t left_token = find(left);
    const int32_t right_token = find(right);
    const int32_t merged = find(absl::StrCat(left, right));
    if (left_token < 0 || right_token < 0 || merged < 0) {
      return fail("names a token that the vocabulary lacks");
    }
    if (!encoding_.AddMerge(left_token, right_token, merged)) return fail("is there twice");
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::LoadNamedTokens(const GgufFile& file) {
  const auto load = [&](absl::string_view key, std::optional<int32_t>& token) -> absl::Status {
    if (!file.Has(key)) return absl::OkStatus();
    const auto number = file.GetUint(key);
    if (!number.ok()) return number.status();
    if (*number >= tokens_.size()) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", key, " is ", *number,
                                                     ", but the vocabulary has only ",
                                                     tokens_.size(), " tokens"));
    }
    token = static_cast<int32_t>(*number);
    return absl::OkStatus();
  };
  std::optional<int32_t> end_of_turn;
  std::optional<int32_t> end_of_message;
  for (absl::Status status :
       {load("tokenizer.ggml.bos_token_id", bos_), load("tokenizer.ggml.eos_token_id", eos_),
        load("tokenizer.ggml.eot_token_id", end_of_turn),
        load("tokenizer.ggml.eom_token_id", end_of_message)}) {
    if (!status.ok()) return status;
  }
  for (const absl::string_view name : kEndTokenNames) {
    if (const auto token = FindSpecial(name)) tokens_[*token].ends_generation = true;
  }
  for (const std::optional<int32_t>& token : {eos_, end_of_turn, end_of_message}) {
    if (token.has_value()) tokens_[*token].ends_generation = true;
  }
  const auto adds_bos = file.GetBoolOr("tokenizer.ggml.add_bos_token", false);
  if (!adds_bos.ok()) return adds_bos.status();
  adds_bos_ = *adds_bos;
  if (adds_bos_ && !bos_.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(),
                     ": tokenizer.ggml.add_bos_token is set, but tokenizer.ggml.bos_token_id is "
                     "missing"));
  }
  return absl::OkStatus();
}

std::optional<int32_t> Tokenizer::FindSpecial(absl::string_view name) const {
  const SpecialTokenMatcher::Match match = special_tokens_.LongestAt(name);
  if (match.length == 0 || match.length != name.size()) return std::nullopt;
  return match.token;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text,
                                                       const EncodeOptions& options) const {
  std::vector<int32_t> tokens;
  StreamingEncoder encoder(*this, options);
  if (absl::Status status = encoder.Append(text, tokens); !status.ok()) return status;
  if (absl::Status status = encoder.Finish(tokens); !status.ok()) return status;
  return tokens;
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> tokens) const {
  std::string bytes;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!IsToken(tokens[i])) {
      return absl::InvalidArgumentError(absl::StrCat("token ", tokens[i], " at index ", i,
                                                     " is not in the vocabulary of ",
                                                     vocabulary_size(), " tokens"));
    }
    absl::StrAppend(&bytes, TokenBytes(tokens[i]));
  }
  std::string text;
  if (AppendValidUtf8(bytes, &text) > 0) absl::StrAppend(&text, kReplacementCharacter);
  return text;
}

}  // namespace weir
