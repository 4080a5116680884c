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

// Blocks of 32 elements, of 16 tokens each: scales, then int8. KeyUnit takes word `word` of 16 keys, Values 16 elements
// of token `row`, from element 16 * half on; all but KeyLanes without their scales.
template <typename V>
struct Q8Elements {
  static constexpr bool kBlocks = true;
  static constexpr int kBlock = 32, kScales = 2 * kKeyTile, kBlockBytes = kScales + kKeyTile * kBlock;
  static int64_t TileBytes(int64_t dim) { return dim / kBlock * kBlockBytes; }
  static typename V::Floats Scales(const std::byte* block) { return V::LoadF16(block); }
  static typename V::Unit KeyUnit(const std::byte* block, int word) {
    return V::LoadUnit(block + kScales + word * 4 * kKeyTile);
  }
  static typename V::Floats Values(const std::byte* block, int row, int half) {
    return V::LoadInt8(block + kScales + row * kBlock + half * 16);
  }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) {
    const std::byte* block = tile + at / kBlock * kBlockBytes;
    const int e = static_cast<int>(at % kBlock);
    return V::Mul(Scales(block), V::template PartOfWords<8>(block + kScales + e / 4 * 4 * kKeyTile, e % 4 * 8));
  }
};

// The same in 4 bits, read as int8 16 times as large.
template <typename V>
struct Q4Elements {
  static constexpr bool kBlocks = true;
  static constexpr int kBlock = 32, kScales = 2 * kKeyTile, kRow = kBlock / 2, kBlockBytes = kScales + kKeyTile * kRow;
  static int64_t TileBytes(int64_t dim) { return dim / kBlock * kBlockBytes; }
  static typename V::Floats Scales(const std::byte* block) { return V::Mul(V::LoadF16(block), V::Set1(1.0f / 16)); }
  static typename V::Unit KeyUnit(const std::byte* block, int word) {
    return V::LoadNibbleUnit(block + kScales + word / 2 * 4 * kKeyTile, word % 2);
  }
  static typename V::Floats Values(const std::byte* block, int row, int half) {
    return V::LoadNibbles(block + kScales + row * kRow, half);
  }
  static typename V::Floats KeyLanes(const std::byte* tile, int64_t at) {
    const std::byte* block = tile + at / kBlock * kBlockBytes;
    const int e = static_cast<int>(at % kBlock);
    const std::byte* words = block + kScales + e / 8 * 4 * kKeyTile;
    return V::Mul(V::LoadF16(block), V::template PartOfWords<4>(words, e % 4 * 8 + e % 8 / 4 * 4));
  }
};

}  // namespace
}  // namespace tandem::engine
