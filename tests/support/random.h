// Random numbers for made-up weights.
#pragma once

#include <cstdint>

namespace tandem::testing {

// SplitMix64: a fixed sequence on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  float Uniform() {  // [-1, 1)
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-23f - 1.0f;
  }

 private:
  uint64_t state_;
};

}  // namespace tandem::testing
