// The shared path of the quantised formats without a kernel of their own: the packed blocks of 16 rows are expanded
// into planes of bytes with integer scales beside them, once for all tokens; then one dot product kernel closes them.
// Rules as in kernels/vector_common.h. W, a class of the kernel set, is 16 words of 32 bits, one a row; the members it
// needs are those that avx512/words.h defines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/cpu/kernels/kernel_args.h"
#include "engine/quant/tensor_type.h"

namespace tandem::engine {
namespace {

constexpr int kPlaneElements = 256;  // one super-block, or up to eight blocks of 32

// What is expanded at a time.
struct Planes {
  // Elements 4u .. 4u + 3 of the 16 rows: their values plus the bias of the kernel set.
  alignas(64) uint8_t unit[kPlaneElements / 4][4 * kRowGroup];
  // Super-blocks: what multiplies a sub-block.
  alignas(64) int32_t scale[16][kRowGroup], min[16][kRowGroup];
  // The mins of two adjacent sub-blocks as a pair of int16, or, in formats without mins, what the bias adds too much to
  // their dot products. By PairMins.
  alignas(64) int32_t min_pair[8][kRowGroup];
  // Per block: one for a super-block.
  alignas(64) float d[8][kRowGroup], dmin[8][kRowGroup];
};

// What an expander writes into: block `kBlock` of the planes. kBias is what the kernel set wants in the units.
template <typename W, int kBias>
class PlaneWriter {
 public:
  PlaneWriter(Planes* planes, int block, int first_unit) : planes_(planes), block_(block), first_unit_(first_unit) {}

  // Unit `u` of the block, given as values plus kStored.
  template <int kStored>
  void Unit(int u, W values) {
    if constexpr (kBias != kStored) values = W::AddBytes(values, W::Splat(0x01010101u * ((kBias - kStored) & 255)));
    values.Store(planes_->unit[first_unit_ + u]);
  }
  void Scale(int sub_block, W scale) { scale.Store(planes_->scale[sub_block]); }
  void Min(int sub_block, W min) { min.Store(planes_->min[sub_block]); }
  void Factor(W halves, float times) { W::StoreHalves(halves, times, planes_->d[block_]); }
  void MinFactor(W halves, float times) { W::StoreHalves(halves, times, planes_->dmin[block_]); }
  float* factors() { return planes_->d[block_]; }

 private:
  Planes* planes_;
  int block_, first_unit_;
};

// Brings the mins of a super-block into the form that the dot products take.
template <typename W, typename F, int kBias>
inline void PairMins(Planes* planes) {
  constexpr int kSubBlocks = kPlaneElements / F::kSub;
  if constexpr (F::kHasMins || kBias != 0) {
    for (int i = 0; i < kSubBlocks / 2; ++i) {
      W even = W::Load(F::kHasMins ? planes->min[2 * i] : planes->scale[2 * i]);
      W odd = W::Load(F::kHasMins ? planes->min[2 * i + 1] : planes->scale[2 * i + 1]);
      if constexpr (!F::kHasMins) {
        even = W::Multiply(even, W::Splat(kBias));
        odd = W::Multiply(odd, W::Splat(kBias));
      }
      ((even & W::Splat(0xffff)) | (odd << 16)).Store(planes->min_pair[i]);
    }
  }
}

// Where the words of a packed block lie: kLead bytes a row before the words of 4 bytes, kWords of those, then halves.
template <typename W, int kLead, int kWords>
struct PackedWords {
  const std::byte* block;
  W Word(int i) const { return W::Load(block + kRowGroup * (kLead + 4 * i)); }
  W LeadingHalf(int i) const { return W::LoadHalves(block + kRowGroup * 2 * i); }
  W TrailingHalf(int i) const { return W::LoadHalves(block + kRowGroup * (kLead + 4 * kWords + 2 * i)); }
};

// Byte `i` of each word.
template <typename W>
inline W ByteOf(W word, int i) {
  return (word >> (8 * i)) & W::Splat(0xff);
}

}  // namespace
}  // namespace tandem::engine
