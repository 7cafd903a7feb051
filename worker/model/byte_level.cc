#include "worker/model/byte_level.h"

#include <array>

#include "worker/model/utf8.h"

namespace weir {
namespace {

constexpr int kCodePoints = 0x100 + 68;  // beyond the last that stands for a byte

constexpr bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xff && byte != 0xad);
}

struct Alphabet {
  std::array<uint16_t, 256> code_point_of{};
  std::array<int16_t, kCodePoints> byte_of{};  // -1: stands for no byte
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte_of) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code_point = StandsForItself(byte) ? byte : next++;
    alphabet.code_point_of[byte] = static_cast<uint16_t>(code_point);
    alphabet.byte_of[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string ByteLevelCharacter(uint8_t byte) {
  const int code_point = kAlphabet.code_point_of[byte];
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

std::string ByteLevelBytes(absl::string_view token) {
  std::string bytes;
  for (absl::string_view rest = token; !rest.empty();) {
    const Utf8Character character = FirstUtf8Character(rest);
    if (character.kind != Utf8Character::Kind::kValid || character.code_point >= kCodePoints ||
        kAlphabet.byte_of[character.code_point] < 0) {
      return std::string(token);
    }
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[character.code_point]));
    rest.remove_prefix(character.length);
  }
  return bytes;
}

}  // namespace weir
