#ifndef WEIR_WORKER_MODEL_PRE_TOKENIZER_H_
#define WEIR_WORKER_MODEL_PRE_TOKENIZER_H_

#include <cstdint>
#include <vector>

namespace weir {

// Cuts text into the pieces within which byte pairs are merged, as the `smollm` pre-tokenizer does:
// first every number character (\p{N}) is cut out as a piece of its own, then what lies between is
// matched from left to right with GPT-2's expression
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// It takes one character at a time and tells where a piece ends as soon as no later character can
// change that, so the same code serves whole texts and texts that arrive in parts, and its own
// state is a few words. Offsets are bytes in the caller's text. Not thread-safe.
class PreTokenizer {
 public:
  // Takes the character of `length` bytes at `offset`, where the one before it ended. Appends to
  // `ends` the offset behind every piece that this completes; a piece begins where the last ended.
  void Push(uint32_t code_point, uint64_t offset, int length, std::vector<uint64_t>& ends);

  // The text ends at `offset`: appends the ends of what is left. Ready for another text then.
  void Finish(uint64_t offset, std::vector<uint64_t>& ends);

 private:
  enum class State {
    kEmpty,             // nothing since the last end
    kSpaces,            // white space only
    kLetters,           // letters, perhaps behind one space
    kOthers,            // neither white space nor letters nor numbers, perhaps behind one space
    kApostrophe,        // exactly '
    kApostropheLetter,  // ' and one of r, v, l, which await `contraction_end_`
  };
  enum class Class { kSpace, kLetter, kNumber, kOther };

  static Class Classify(uint32_t code_point);
  void BeginPiece(Class character, uint32_t code_point, uint64_t offset, int length,
                  std::vector<uint64_t>& ends);
  // Handles a character behind an apostrophe. False: the apostrophe turned out to be a piece, or
  // the beginning of one, like any other; `state_` is changed accordingly and the character is
  // still to be handled.
  bool ExtendContraction(uint32_t code_point, uint64_t offset, int length,
                         std::vector<uint64_t>& ends);
  void EndSpaces(uint64_t offset, std::vector<uint64_t>& ends);

  State state_ = State::kEmpty;
  uint64_t begin_ = 0;             // of the unfinished piece
  uint64_t last_space_ = 0;        // kSpaces: offset of the last white space character
  bool last_space_joins_ = false;  // kSpaces: it is U+0020
  uint32_t contraction_end_ = 0;   // kApostropheLetter: the letter that completes the contraction
};

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_PRE_TOKENIZER_H_
