#include "worker/service/appended_text.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/model/utf8.h"

namespace weir {
namespace {

struct Utf8Split {
  size_t valid = 0;      // bytes of whole characters at the front
  bool invalid = false;  // whether what follows them can never become a character
};

Utf8Split SplitUtf8(absl::string_view text) {
  Utf8Split split;
  while (split.valid < text.size()) {
    const Utf8Character next = FirstUtf8Character(text.substr(split.valid));
    if (next.kind != Utf8Character::Kind::kValid) {
      split.invalid = next.kind == Utf8Character::Kind::kInvalid;
      break;
    }
    split.valid += next.length;
  }
  return split;
}

}  // namespace

absl::Status AppendedText::Receive(int64_t offset, absl::string_view bytes, bool begins_session) {
  assert(state_ != State::kEnding);
  if (offset < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset is ", offset, "; it must be at least 0"));
  }
  const int64_t received = appended_bytes() + static_cast<int64_t>(incomplete_.size());
  if (offset > received) {
    return absl::OutOfRangeError(absl::StrCat("offset is ", offset,
                                              ", but the session has received ", received,
                                              " bytes: go on from offset ", received));
  }
  const int64_t known = received - offset;
  if (known >= static_cast<int64_t>(bytes.size())) return absl::OkStatus();
  bytes.remove_prefix(known);

  std::string joined;
  if (!incomplete_.empty()) {
    joined = absl::StrCat(incomplete_, bytes);
    bytes = joined;
  }
  const Utf8Split split = SplitUtf8(bytes);
  if (split.valid > 0) {
    if (state_ == State::kNone) {
      const EncodeOptions options = {.add_bos = begins_session && tokenizer_.adds_bos()};
      encoder_ = std::make_unique<StreamingEncoder>(tokenizer_, options);
      SetState(State::kOpen);
    }
    const absl::Status encoded = encoder_->Append(bytes.substr(0, split.valid), pending_);
    if (!encoded.ok()) {
      // Only a monstrous word gets here. The encoder is used up and drops it; what came before it
      // is the whole text.
      encoder_.reset();
      incomplete_.clear();
      SetState(State::kEnding);
      return encoded;
    }
    appended_bytes_.fetch_add(static_cast<int64_t>(split.valid), std::memory_order_relaxed);
  }
  if (split.invalid) {
    incomplete_.clear();
    return absl::InvalidArgumentError(absl::StrCat("the text is not valid UTF-8 at offset ",
                                                   appended_bytes(),
                                                   "; it was received up to there"));
  }
  incomplete_ = std::string(bytes.substr(split.valid));
  return absl::OkStatus();
}

absl::Status AppendedText::End() {
  if (!incomplete_.empty()) {
    const int64_t end = appended_bytes() + static_cast<int64_t>(incomplete_.size());
    incomplete_.clear();
    return absl::InvalidArgumentError(
        absl::StrCat("the text ends at offset ", end, " inside a character that begins at offset ",
                     appended_bytes(), "; it was received up to there and is still open"));
  }
  if (state_ != State::kOpen) return absl::OkStatus();
  const absl::Status finished = encoder_->Finish(pending_);
  encoder_.reset();
  SetState(State::kEnding);
  return finished;
}

void AppendedText::Ended() {
  assert(state_ == State::kEnding && pending_.empty());
  SetState(State::kNone);
}

void AppendedText::SetState(State state) {
  state_ = state;
  open_.store(state == State::kOpen, std::memory_order_relaxed);
}

}  // namespace weir
