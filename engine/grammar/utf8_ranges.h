// Sets of characters as sets of byte sequences.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/grammar/expression.h"

namespace tandem::engine::grammar {

// `length` bytes, byte i within [first[i], last[i]].
struct ByteSequence {
  int length = 0;
  std::array<uint8_t, 4> first{}, last{};
};

// Sorted, merged, without surrogates and what is beyond U+10FFFF.
std::vector<CharRange> Normalise(std::vector<CharRange> ranges);
// Every character that is not in `ranges`.
std::vector<CharRange> Complement(std::vector<CharRange> ranges);
// The UTF-8 forms of the characters of `range`, which holds no surrogate: every sequence that fits is the form of one
// of them and the other way round.
void AppendByteSequences(CharRange range, std::vector<ByteSequence>* sequences);

}  // namespace tandem::engine::grammar
