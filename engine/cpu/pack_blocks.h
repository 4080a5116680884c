// Turns one block of 16 rows from file format into the packed layout of engine/cpu/packed_matrix.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/quant/block_format.h"

namespace tandem::engine {

struct BlockPacker {
  TensorType type;
  uint32_t block_elements;
  uint32_t file_bytes;            // of one row's block in the file
  uint32_t packed_bytes_per_row;  // of one row's share of a packed block
  // Packs the blocks at rows[0..15] (null = a row of zeros) to `out`, 16 * packed_bytes_per_row bytes.
  void (*pack)(const std::byte* const* rows, std::byte* out);
};

// The packer of `type`, or null if the type has no packed form. Lives forever; thread-safe.
const BlockPacker* FindBlockPacker(TensorType type);

}  // namespace tandem::engine
