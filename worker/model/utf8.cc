#include "worker/model/utf8.h"

#include <cassert>

namespace weir {
namespace {

using Kind = Utf8Character::Kind;

// What may follow a lead byte: the sequence's length and the range of its second byte (later bytes
// are 0x80 to 0xbf). Table 3-7 of the Unicode Standard.
struct LeadByte {
  int length = 0;  // 0: no character begins with this byte
  uint8_t second_first = 0x80;
  uint8_t second_last = 0xbf;
};

LeadByte ClassifyLead(uint8_t lead) {
  if (lead < 0xc2 || lead > 0xf4) return {};
  if (lead < 0xe0) return {2, 0x80, 0xbf};
  if (lead == 0xe0) return {3, 0xa0, 0xbf};
  if (lead == 0xed) return {3, 0x80, 0x9f};
  if (lead < 0xf0) return {3, 0x80, 0xbf};
  if (lead == 0xf0) return {4, 0x90, 0xbf};
  if (lead == 0xf4) return {4, 0x80, 0x8f};
  return {4, 0x80, 0xbf};
}

}  // namespace

Utf8Character FirstUtf8Character(absl::string_view text) {
  assert(!text.empty());
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Kind::kValid, 1, lead};
  const LeadByte form = ClassifyLead(lead);
  if (form.length == 0) return {Kind::kInvalid, 1, 0};
  uint32_t code_point = lead & (0x7fu >> form.length);
  for (int i = 1; i < form.length; ++i) {
    if (static_cast<size_t>(i) == text.size()) return {Kind::kIncomplete, i, 0};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t first = i == 1 ? form.second_first : 0x80;
    const uint8_t last = i == 1 ? form.second_last : 0xbf;
    if (byte < first || byte > last) return {Kind::kInvalid, i, 0};
    code_point = (code_point << 6) | (byte & 0x3fu);
  }
  return {Kind::kValid, form.length, code_point};
}

int AppendValidUtf8(absl::string_view text, std::string* out) {
  while (!text.empty()) {
    const Utf8Character character = FirstUtf8Character(text);
    if (character.kind == Kind::kIncomplete) return character.length;
    const bool valid = character.kind == Kind::kValid;
    const absl::string_view append =
        valid ? text.substr(0, character.length) : kReplacementCharacter;
    out->append(append.data(), append.size());
    text.remove_prefix(character.length);
  }
  return 0;
}

}  // namespace weir
