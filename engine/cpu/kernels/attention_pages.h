// How the kernel sets with vectors read KV pages; V is the set's, as in kernels/attention_walk.h.
#pragma once

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine {
namespace {

// How pages are read. Tiles hold 16 tokens; Load takes 16 elements of a row, KeyLanes element `at` of 16 keys.
template <typename V>
struct F32Elements {
  static constexpr bool kBlocks = false;
  static constexpr int kBytes = 4;
  static int64_t TileBytes(int64_t dim) { return kKeyTile * dim * kBytes; }
  static typename V::Floats Load(const std::byte* p) { return V::Load(reinterpret_cast<const float*>(p)); }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) { return Load(tile + at * kKeyTile * kBytes); }
};

template <typename V>
struct F16Elements {
  static constexpr bool kBlocks = false;
  static constexpr int kBytes = 2;
  static int64_t TileBytes(int64_t dim) { return kKeyTile * dim * kBytes; }
  static typename V::Floats Load(const std::byte* p) { return V::LoadF16(p); }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) { return Load(tile + at * kKeyTile * kBytes); }
};

template <typename V>
struct BF16Elements {
  static constexpr bool kBlocks = false;
  static constexpr int kBytes = 2;
  static int64_t TileBytes(int64_t dim) { return kKeyTile * dim * kBytes; }
  static typename V::Floats Load(const std::byte* p) { return V::LoadBF16(p); }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) { return Load(tile + at * kKeyTile * kBytes); }
};

// Blocks of 32 elements, of 16 tokens each: scales, then int8.
template <typename V>
struct Q8Elements {
  static constexpr bool kBlocks = true;
  static constexpr int kBlock = 32, kScales = 2 * kKeyTile, kBlockBytes = kScales + kKeyTile * kBlock;
  static int64_t TileBytes(int64_t dim) { return dim / kBlock * kBlockBytes; }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) {
    const std::byte* block = tile + at / kBlock * kBlockBytes;
    const std::byte* unit = block + kScales + at % kBlock / 4 * 4 * kKeyTile;
    return V::Mul(V::LoadF16(block), V::ByteOfWords(unit, static_cast<int>(at % 4)));
  }
};

}  // namespace
}  // namespace tandem::engine
