// The printable characters by which byte-level BPE vocabularies spell bytes: bytes that are printable in Latin-1 stand
// for themselves, the other 68 for U+0100 and up in ascending order.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::engine {

char32_t CharacterOfByte(uint8_t byte);
// -1 for a character that stands for no byte.
int ByteOfCharacter(char32_t character);

// `bytes` spelled as in the vocabulary.
std::string SpellBytes(absl::string_view bytes);
// The bytes of a spelling; a character that stands for no byte, or bytes that are no UTF-8, stay as they are.
std::string UnspellBytes(absl::string_view spelling);

}  // namespace tandem::engine
