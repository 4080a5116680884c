#include "engine/grammar/utf8_ranges.h"

#include <algorithm>
#include <string>

#include "engine/tokenizer/utf8.h"

namespace tandem::engine::grammar {
namespace {

constexpr char32_t kLast = 0x10FFFF;
constexpr char32_t kBeforeSurrogates = 0xD7FF, kAfterSurrogates = 0xE000;

int Length(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

// `range` has one length, and from byte `from` on its sequences are not yet known to be a product of byte ranges.
void Split(CharRange range, std::vector<ByteSequence>* sequences) {
  const int length = Length(range.first);
  // The low 6 * i bits are those of the last i bytes. Where they do not span all values while a byte before differs,
  // the range is cut.
  for (int i = 1; i < length; ++i) {
    const char32_t low = (char32_t{1} << (6 * i)) - 1;
    if ((range.first & ~low) == (range.last & ~low)) continue;
    if ((range.first & low) != 0) {
      Split({range.first, range.first | low}, sequences);
      return Split({(range.first | low) + 1, range.last}, sequences);
    }
    if ((range.last & low) != low) {
      Split({range.first, (range.last & ~low) - 1}, sequences);
      return Split({range.last & ~low, range.last}, sequences);
    }
  }
  std::string first, last;
  AppendUtf8(range.first, &first);
  AppendUtf8(range.last, &last);
  ByteSequence sequence;
  sequence.length = length;
  for (int i = 0; i < length; ++i) {
    sequence.first[i] = static_cast<uint8_t>(first[i]);
    sequence.last[i] = static_cast<uint8_t>(last[i]);
  }
  sequences->push_back(sequence);
}

}  // namespace

std::vector<CharRange> Normalise(std::vector<CharRange> ranges) {
  std::vector<CharRange> parts;
  for (CharRange range : ranges) {
    range.last = std::min(range.last, kLast);
    if (range.first > range.last) continue;
    // The parts below and above the surrogates.
    if (range.first <= kBeforeSurrogates) parts.push_back({range.first, std::min(range.last, kBeforeSurrogates)});
    if (range.last >= kAfterSurrogates) parts.push_back({std::max(range.first, kAfterSurrogates), range.last});
  }
  std::sort(parts.begin(), parts.end(), [](CharRange a, CharRange b) { return a.first < b.first; });
  std::vector<CharRange> merged;
  for (const CharRange range : parts) {
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::vector<CharRange> Complement(std::vector<CharRange> ranges) {
  std::vector<CharRange> rest;
  char32_t next = 0;
  for (const CharRange range : Normalise(std::move(ranges))) {
    if (range.first > next) rest.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLast) rest.push_back({next, kLast});
  return Normalise(std::move(rest));
}

void AppendByteSequences(CharRange range, std::vector<ByteSequence>* sequences) {
  constexpr std::array<char32_t, 4> kLastOfLength = {0x7F, 0x7FF, 0xFFFF, kLast};
  for (const char32_t last : kLastOfLength) {
    if (range.first > last || range.first > range.last) continue;
    Split({range.first, std::min(range.last, last)}, sequences);
    range.first = last + 1;
  }
}

}  // namespace tandem::engine::grammar
