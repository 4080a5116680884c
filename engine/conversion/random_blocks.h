// Random weights drawn directly in a tensor's format, at the speed of memory: nothing is quantised. The bits of a block
// are random, only its scales are set, so that the weights have mean 0 and the spread asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Draws blocks of one format with one spread. Immutable, hence thread-safe.
class RandomBlocks {
 public:
  // Weights of standard deviation `spread`, from 2^-10 to 1. Errors: kUnimplemented (a format that Tandem does not
  // compute with).
  static absl::StatusOr<RandomBlocks> Create(TensorType type, float spread);

  // Fills whole blocks; the same `seed` gives the same bytes.
  void Fill(uint64_t seed, std::span<std::byte> blocks) const;

 private:
  explicit RandomBlocks(const BlockFormat& format) : format_(format) {}
  void Calibrate(float spread);
  void SetScales(std::span<std::byte> blocks, uint16_t scale, uint16_t offset) const;

  const BlockFormat& format_;
  int exponent_ = 0;                 // of float formats: the largest one drawn
  uint16_t scale_ = 0, offset_ = 0;  // halves in each block; MXFP4: the scale is an exponent
};

}  // namespace tandem::engine
