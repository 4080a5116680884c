#include "engine/cpu/pack_blocks.h"

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

template <int kBytes>
void PackRun(int words, const std::byte* const* rows, size_t at, std::byte* out) {
  for (int word = 0; word < words; ++word, at += kBytes) {
    for (int lane = 0; lane < kRowGroup; ++lane, out += kBytes) {
      if (rows[lane] != nullptr) {
        std::memcpy(out, rows[lane] + at, kBytes);
      } else {
        std::memset(out, 0, kBytes);
      }
    }
  }
}

}  // namespace

const BlockLayout* FindBlockLayout(TensorType type) {
  for (const BlockLayout& layout : kLayouts) {
    if (layout.type == type) return &layout;
  }
  return nullptr;
}

void PackBlock(const BlockLayout& layout, const std::byte* const* rows, std::byte* out) {
  size_t at = 0;  // in the file's block
  for (const BlockLayout::Run& run : layout.runs) {
    if (run.word_bytes == 1) PackRun<1>(run.words, rows, at, out + kRowGroup * at);
    if (run.word_bytes == 2) PackRun<2>(run.words, rows, at, out + kRowGroup * at);
    if (run.word_bytes == 4) PackRun<4>(run.words, rows, at, out + kRowGroup * at);
    at += size_t{run.words} * run.word_bytes;
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
