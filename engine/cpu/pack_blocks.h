// How the blocks of 16 rows are laid side by side: the layout of engine/cpu/packed_matrix.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/quant/block_format.h"

namespace tandem::engine {

// A block of the file as words: the same word of all 16 rows lies together.
struct BlockLayout {
  struct Run {
    uint8_t words, word_bytes;  // 1, 2 or 4
  };
  TensorType type;
  std::array<Run, 3> runs;  // in the order of the file; unused ones have no words
};

// The layout of `type`, or null if the type has no packed form. Lives forever; thread-safe.
const BlockLayout* FindBlockLayout(TensorType type);

// Packs a group of 16 rows of `blocks` blocks, which lie one after the other at `rows`, to `out`: both 16 * blocks *
// block_bytes bytes that do not overlap.
void PackGroup(const BlockLayout& layout, int64_t blocks, const std::byte* rows, std::byte* out);
// The way back for one row of one block: its bytes in file format.
void UnpackBlock(const BlockLayout& layout, const std::byte* packed, int lane, std::byte* block);

}  // namespace tandem::engine
