#include "worker/model/pre_tokenizer.h"

#include <algorithm>

#include "absl/types/span.h"
#include "worker/model/unicode_ranges.h"

namespace weir {
namespace {

bool Contains(absl::Span<const CodePointRange> ranges, uint32_t code_point) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), code_point,
      [](uint32_t value, const CodePointRange& range) { return value < range.first; });
  return after != ranges.begin() && code_point <= (after - 1)->last;
}

// The letter that a contraction needs behind an apostrophe and `letter`; 0 if there is none.
uint32_t ContractionEnd(uint32_t letter) {
  switch (letter) {
    case 'r':
    case 'v':
      return 'e';
    case 'l':
      return 'l';
    default:
      return 0;
  }
}

}  // namespace

PreTokenizer::Class PreTokenizer::Classify(uint32_t code_point) {
  if (code_point < 0x80) {
    if ((code_point | 0x20) >= 'a' && (code_point | 0x20) <= 'z') return Class::kLetter;
    if (code_point == ' ' || (code_point >= '\t' && code_point <= '\r')) return Class::kSpace;
    if (code_point >= '0' && code_point <= '9') return Class::kNumber;
    return Class::kOther;
  }
  if (Contains(LetterRanges(), code_point)) return Class::kLetter;
  if (Contains(NumberRanges(), code_point)) return Class::kNumber;
  if (Contains(SpaceRanges(), code_point)) return Class::kSpace;
  return Class::kOther;
}

void PreTokenizer::Push(uint32_t code_point, uint64_t offset, int length,
                        std::vector<uint64_t>& ends) {
  if (state_ == State::kApostrophe || state_ == State::kApostropheLetter) {
    if (ExtendContraction(code_point, offset, length, ends)) return;
  }
  const Class character = Classify(code_point);
  switch (state_) {
    case State::kEmpty:
      break;
    case State::kLetters:
      if (character == Class::kLetter) return;
      ends.push_back(offset);
      break;
    case State::kOthers:
      if (character == Class::kOther) return;
      ends.push_back(offset);
      break;
    case State::kSpaces:
      if (character == Class::kSpace) {
        last_space_ = offset;
        last_space_joins_ = code_point == ' ';
        return;
      }
      if (character == Class::kNumber) {
        // The text that GPT-2's expression sees ends here: no space is spared for what follows.
        ends.push_back(offset);
        break;
      }
      EndSpaces(offset, ends);
      if (last_space_joins_) {
        begin_ = last_space_;
        state_ = character == Class::kLetter ? State::kLetters : State::kOthers;
        return;
      }
      break;
    case State::kApostrophe:
    case State::kApostropheLetter:
      break;  // Not reached: ExtendContraction left these states.
  }
  BeginPiece(character, code_point, offset, length, ends);
}

void PreTokenizer::BeginPiece(Class character, uint32_t code_point, uint64_t offset, int length,
                              std::vector<uint64_t>& ends) {
  begin_ = offset;
  switch (character) {
    case Class::kLetter:
      state_ = State::kLetters;
      return;
    case Class::kNumber:
      state_ = State::kEmpty;
      ends.push_back(offset + length);
      return;
    case Class::kOther:
      state_ = code_point == '\'' ? State::kApostrophe : State::kOthers;
      return;
    case Class::kSpace:
      state_ = State::kSpaces;
      last_space_ = offset;
      last_space_joins_ = code_point == ' ';
      return;
  }
}

// \s+(?!\S) takes all white space but the last character; ` ?` then takes that one if it is U+0020,
// else \s+ does.
void PreTokenizer::EndSpaces(uint64_t offset, std::vector<uint64_t>& ends) {
  if (begin_ < last_space_) ends.push_back(last_space_);
  if (!last_space_joins_) ends.push_back(offset);
}

bool PreTokenizer::ExtendContraction(uint32_t code_point, uint64_t offset, int length,
                                     std::vector<uint64_t>& ends) {
  if (state_ == State::kApostropheLetter) {
    if (code_point == contraction_end_) {
      ends.push_back(offset + length);
      state_ = State::kEmpty;
      return true;
    }
    // An apostrophe, then letters.
    ends.push_back(begin_ + 1);
    begin_ += 1;
    state_ = State::kLetters;
    return false;
  }
  if (code_point == 's' || code_point == 't' || code_point == 'm' || code_point == 'd') {
    ends.push_back(offset + length);
    state_ = State::kEmpty;
    return true;
  }
  contraction_end_ = ContractionEnd(code_point);
  if (contraction_end_ != 0) {
    state_ = State::kApostropheLetter;
    return true;
  }
  state_ = State::kOthers;
  return false;
}

void PreTokenizer::Finish(uint64_t offset, std::vector<uint64_t>& ends) {
  if (state_ == State::kApostropheLetter) ends.push_back(begin_ + 1);
  if (state_ != State::kEmpty) ends.push_back(offset);
  state_ = State::kEmpty;
}

}  // namespace weir
