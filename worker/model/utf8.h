#ifndef WEIR_WORKER_MODEL_UTF8_H_
#define WEIR_WORKER_MODEL_UTF8_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace weir {

// The first character of some text.
struct Utf8Character {
  enum class Kind {
    kValid,
    kInvalid,     // `length` bytes that no following byte can turn into a character
    kIncomplete,  // the text ends inside a character that may still become valid
  };
  Kind kind = Kind::kValid;
  // Bytes of the character; of an invalid one, the longest part that begins a character, at least
  // 1 (what the Unicode Standard, section 3.9, advises to replace by one U+FFFD).
  int length = 0;
  uint32_t code_point = 0;  // if valid
};

// Decodes the character that `text`, not empty, begins with. Surrogates, overlong forms and code
// points above U+10FFFF are invalid.
Utf8Character FirstUtf8Character(absl::string_view text);

// Appends the text to `out` up to an incomplete character at its end, each invalid part replaced by
// U+FFFD. Returns the bytes of the incomplete end: 0 to 3.
int AppendValidUtf8(absl::string_view text, std::string* out);

// U+FFFD, which stands for what was not text.
inline constexpr absl::string_view kReplacementCharacter = "\xef\xbf\xbd";

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_UTF8_H_
