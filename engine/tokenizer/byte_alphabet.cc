#include "engine/tokenizer/byte_alphabet.h"

#include <array>

#include "engine/tokenizer/utf8.h"

namespace tandem::engine {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;
constexpr int kSubstitutes = 68;

struct Alphabet {
  std::array<char32_t, 256> character = {};
  std::array<int, kFirstSubstitute + kSubstitutes> byte = {};
};

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int& byte : alphabet.byte) byte = -1;
  char32_t substitute = kFirstSubstitute;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = StandsForItself(byte) ? static_cast<char32_t>(byte) : substitute++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = byte;
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

char32_t CharacterOfByte(uint8_t byte) { return kAlphabet.character[byte]; }

int ByteOfCharacter(char32_t character) { return character < kAlphabet.byte.size() ? kAlphabet.byte[character] : -1; }

std::string SpellBytes(absl::string_view bytes) {
  std::string spelling;
  spelling.reserve(2 * bytes.size());
  for (const char c : bytes) AppendUtf8(CharacterOfByte(static_cast<uint8_t>(c)), &spelling);
  return spelling;
}

std::string UnspellBytes(absl::string_view spelling) {
  std::string bytes;
  while (!spelling.empty()) {
    const Utf8Step step = NextUtf8(spelling);
    const int byte = step.status == Utf8Status::kWhole ? ByteOfCharacter(step.code_point) : -1;
    if (byte >= 0) {
      bytes.push_back(static_cast<char>(byte));
    } else {
      bytes.append(spelling.data(), step.bytes);
    }
    spelling.remove_prefix(step.bytes);
  }
  return bytes;
}

}  // namespace tandem::engine
