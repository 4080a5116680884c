// Random numbers that are the same on every machine for the same seed (the standard library's distributions are not).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

namespace tandem::cli {

// Thread-compatible. Different streams of one seed are independent.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : engine_(seed * 0x9E3779B97F4A7C15u + stream) {}

  // [0, 1), a multiple of 2^-53.
  double Uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  // 0 to n - 1; n is at least 1 and at most 2^32, so what the modulus favours some values by is below 2^-32.
  uint64_t Below(uint64_t n) { return engine_() % n; }
  // The time to the next event of a Poisson process with `rate` events in a unit of time.
  double Exponential(double rate) { return -std::log1p(-Uniform()) / rate; }
  // Mean 0, variance 1 (Box and Muller).
  double Normal() {
    const double radius = std::sqrt(-2 * std::log1p(-Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace tandem::cli
