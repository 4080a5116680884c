// Internal to engine/quant: what the super-block formats share.
#pragma once

#include <cstddef>

namespace tandem::engine {

inline constexpr size_t kSuperBlock = 256;

// The 256 elements are two halves of four runs of 32; the bit planes of Q2_K, Q3_K, Q6_K and TQ2_0 follow them.
struct RunPlace {
  size_t half, run, at;
};
inline RunPlace PlaceInRun(size_t i) { return {i / 128, i % 128 / 32, i % 32}; }

// The importance of the elements from `start` on, null for none.
inline const float* ImportanceAt(const float* importance, size_t start) {
  return importance == nullptr ? nullptr : importance + start;
}

}  // namespace tandem::engine
