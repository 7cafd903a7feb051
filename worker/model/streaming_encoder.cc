#include "worker/model/streaming_encoder.h"

#include "absl/strings/str_cat.h"
#include "worker/model/special_token_matcher.h"
#include "worker/model/utf8.h"

namespace weir {

StreamingEncoder::StreamingEncoder(const Tokenizer& tokenizer, const EncodeOptions& options)
    : tokenizer_(tokenizer), options_(options) {}

absl::Status StreamingEncoder::Append(absl::string_view part, std::vector<int32_t>& tokens) {
  if (!status_.ok()) return status_;
  AddBosOnce(tokens);
  const uint64_t held_from = begin_;
  if (held_back_.empty()) {
    status_ = Scan(part, /*is_whole=*/false, tokens);
    held_back_ = std::string(part.substr(begin_ - held_from));
  } else {
    absl::StrAppend(&held_back_, part);
    status_ = Scan(held_back_, /*is_whole=*/false, tokens);
    held_back_.erase(0, begin_ - held_from);
  }
  return status_;
}

absl::Status StreamingEncoder::Finish(std::vector<int32_t>& tokens) {
  if (!status_.ok()) return status_;
  AddBosOnce(tokens);
  status_ = Scan(held_back_, /*is_whole=*/true, tokens);
  return status_;
}

absl::Status StreamingEncoder::Scan(absl::string_view text, bool is_whole,
                                    std::vector<int32_t>& tokens) {
  const uint64_t base = begin_;  // where `text` begins; begin_ moves on
  const uint64_t end = base + text.size();
  const auto encode_pieces = [&] {
    for (const uint64_t piece_end : piece_ends_) {
      const absl::string_view piece = text.substr(begin_ - base, piece_end - begin_);
      tokenizer_.encoding_.Encode(piece, scratch_, tokens);
      begin_ = piece_end;
    }
    piece_ends_.clear();
  };
  while (scanned_ < end) {
    const absl::string_view rest = text.substr(scanned_ - base);
    if (options_.parse_special) {
      const SpecialTokenMatcher::Match match = tokenizer_.special_tokens_.LongestAt(rest);
      if (match.undecided && !is_whole) return absl::OkStatus();
      if (match.length > 0) {
        pre_tokenizer_.Finish(scanned_, piece_ends_);
        encode_pieces();
        tokens.push_back(match.token);
        scanned_ += match.length;
        begin_ = scanned_;
        continue;
      }
    }
    const Utf8Character character = FirstUtf8Character(rest);
    if (character.kind == Utf8Character::Kind::kIncomplete && !is_whole) return absl::OkStatus();
    if (character.kind != Utf8Character::Kind::kValid) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text is not valid UTF-8 at byte offset ", scanned_));
    }
    pre_tokenizer_.Push(character.code_point, scanned_, character.length, piece_ends_);
    scanned_ += character.length;
    encode_pieces();
    if (scanned_ - begin_ > kMaxPieceBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the text from byte offset ", begin_,
                                                     " on has no word boundary for more than ",
                                                     kMaxPieceBytes, " bytes"));
    }
  }
  if (is_whole) {
    pre_tokenizer_.Finish(end, piece_ends_);
    encode_pieces();
  }
  return absl::OkStatus();
}

void StreamingEncoder::AddBosOnce(std::vector<int32_t>& tokens) {
  if (options_.add_bos && !bos_added_ && tokenizer_.bos().has_value()) {
    tokens.push_back(*tokenizer_.bos());
  }
  bos_added_ = true;
}

}  // namespace weir
