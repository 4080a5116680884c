#include "engine/cpu/pack_blocks.h"

#include <algorithm>
#include <cstring>

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine {
namespace {

using enum TensorType;

// {words, bytes of each}. Half floats are words of 2 bytes; everything else is cut into 4 bytes, so that the quants of
// four consecutive elements, where a format has them in adjacent bytes, stay together.
constexpr BlockLayout kLayouts[] = {
    {kF32, {{{1, 4}}}},
    {kF16, {{{1, 2}}}},
    {kBF16, {{{1, 2}}}},
    {kQ4_0, {{{1, 2}, {4, 4}}}},
    {kQ4_1, {{{2, 2}, {4, 4}}}},
    {kQ5_0, {{{1, 2}, {5, 4}}}},
    {kQ5_1, {{{2, 2}, {5, 4}}}},
    {kQ8_0, {{{1, 2}, {8, 4}}}},
    {kQ2_K, {{{20, 4}, {2, 2}}}},
    {kQ3_K, {{{27, 4}, {1, 2}}}},
    {kQ4_K, {{{2, 2}, {35, 4}}}},
    {kQ5_K, {{{2, 2}, {43, 4}}}},
    {kQ6_K, {{{52, 4}, {1, 2}}}},
    {kIQ4_NL, {{{1, 2}, {4, 4}}}},
    {kIQ4_XS, {{{2, 2}, {33, 4}}}},
    {kMXFP4, {{{1, 1}, {4, 4}}}},
    {kTQ1_0, {{{13, 4}, {1, 2}}}},
    {kTQ2_0, {{{16, 4}, {1, 2}}}},
    {kIQ2_XXS, {{{1, 2}, {16, 4}}}},
    {kIQ2_XS, {{{1, 2}, {18, 4}}}},
    {kIQ2_S, {{{1, 2}, {20, 4}}}},
    {kIQ3_XXS, {{{1, 2}, {24, 4}}}},
    {kIQ3_S, {{{1, 2}, {27, 4}}}},
    {kIQ1_S, {{{1, 2}, {12, 4}}}},
    {kIQ1_M, {{{14, 4}}}},
};

// 16 bytes of words; compilers have these types for every machine that has vectors.
template <typename Word>
using Words __attribute__((vector_size(16))) = Word;

template <typename Word>
Words<Word> InterleaveLow(Words<Word> a, Words<Word> b) {
  if constexpr (sizeof(Word) == 4) return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  if constexpr (sizeof(Word) == 2) return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}

template <typename Word>
Words<Word> InterleaveHigh(Words<Word> a, Words<Word> b) {
  if constexpr (sizeof(Word) == 4) return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  if constexpr (sizeof(Word) == 2) return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// Transposes a square of words: as many rows, `row_bytes` apart, as words of each fit in 16 bytes. Interleaving each
// vector with the one half the square further moves the rows' index by one bit to the right of the words'; after as
// many rounds as the index has bits the two have changed places.
template <typename Word>
void TransposeSquare(const std::byte* rows, size_t row_bytes, std::byte* out) {
  constexpr int kSide = 16 / sizeof(Word);
  Words<Word> square[kSide], next[kSide];
  for (int i = 0; i < kSide; ++i) std::memcpy(&square[i], rows + i * row_bytes, 16);
  for (int bit = 1; bit < kSide; bit *= 2) {
    for (int i = 0; i < kSide / 2; ++i) {
      next[2 * i] = InterleaveLow<Word>(square[i], square[i + kSide / 2]);
      next[2 * i + 1] = InterleaveHigh<Word>(square[i], square[i + kSide / 2]);
    }
    for (int i = 0; i < kSide; ++i) square[i] = next[i];
  }
  for (int i = 0; i < kSide; ++i) std::memcpy(out + i * kRowGroup * sizeof(Word), &square[i], 16);
}

// `words` words of each of 16 rows.
template <typename Word>
void PackRun(int64_t words, const std::byte* rows, size_t row_bytes, std::byte* out) {
  constexpr int64_t kSide = 16 / sizeof(Word);
  if constexpr (sizeof(Word) > 1) {
    if (words >= kSide) {
      for (int64_t begin = 0; begin < words; begin += kSide) {
        // The last square overlaps the one before where they do not divide the run.
        const int64_t word = std::min(begin, words - kSide);
        for (int64_t lane = 0; lane < kRowGroup; lane += kSide) {
          TransposeSquare<Word>(rows + lane * row_bytes + word * sizeof(Word), row_bytes,
                                out + (word * kRowGroup + lane) * sizeof(Word));
        }
      }
      return;
    }
  }
  for (int64_t word = 0; word < words; ++word) {
    for (int lane = 0; lane < kRowGroup; ++lane, out += sizeof(Word)) {
      std::memcpy(out, rows + lane * row_bytes + word * sizeof(Word), sizeof(Word));
    }
  }
}

void PackRunOf(int word_bytes, int64_t words, const std::byte* rows, size_t row_bytes, std::byte* out) {
  if (word_bytes == 1) PackRun<uint8_t>(words, rows, row_bytes, out);
  if (word_bytes == 2) PackRun<uint16_t>(words, rows, row_bytes, out);
  if (word_bytes == 4) PackRun<uint32_t>(words, rows, row_bytes, out);
}

}  // namespace

const BlockLayout* FindBlockLayout(TensorType type) {
  for (const BlockLayout& layout : kLayouts) {
    if (layout.type == type) return &layout;
  }
  return nullptr;
}

void PackGroup(const BlockLayout& layout, int64_t blocks, const std::byte* rows, std::byte* out) {
  int64_t block_bytes = 0;
  for (const BlockLayout::Run& run : layout.runs) block_bytes += int64_t{run.words} * run.word_bytes;
  const size_t row_bytes = blocks * block_bytes;
  // Where all words of a block are alike, so are those of a row: for the float formats a block is one word.
  if (layout.runs[1].words == 0) {
    const BlockLayout::Run& run = layout.runs[0];
    return PackRunOf(run.word_bytes, blocks * run.words, rows, row_bytes, out);
  }
  for (int64_t block = 0; block < blocks; ++block) {
    for (const BlockLayout::Run& run : layout.runs) {
      PackRunOf(run.word_bytes, run.words, rows, row_bytes, out);
      const int64_t bytes = int64_t{run.words} * run.word_bytes;
      rows += bytes;
      out += kRowGroup * bytes;
    }
  }
}

void UnpackBlock(const BlockLayout& layout, const std::byte* packed, int lane, std::byte* block) {
  for (const BlockLayout::Run& run : layout.runs) {
    for (int word = 0; word < run.words; ++word, block += run.word_bytes, packed += kRowGroup * run.word_bytes) {
      std::memcpy(block, packed + lane * run.word_bytes, run.word_bytes);
    }
  }
}

}  // namespace tandem::engine
