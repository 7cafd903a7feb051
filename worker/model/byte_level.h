#ifndef WEIR_WORKER_MODEL_BYTE_LEVEL_H_
#define WEIR_WORKER_MODEL_BYTE_LEVEL_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace weir {

// Byte-level vocabularies (GPT-2's and its descendants') write every byte of a token as one visible
// character: printable Latin-1 bytes as themselves, the other 68 as U+0100, U+0101, ... in order.

// The character that stands for `byte`, in UTF-8.
std::string ByteLevelCharacter(uint8_t byte);

// The bytes that a token stands for. A token with a character that stands for no byte is taken as
// plain text and returned as it is.
std::string ByteLevelBytes(absl::string_view token);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_BYTE_LEVEL_H_
