// Shared by the tests of engine/quant: rows to quantise, and a trip through a format.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/quant/block_format.h"

namespace tandem::engine {

// `count` normal values of deviation 1. Box-Muller over mt19937, so that every standard library gives the same.
inline std::vector<float> GaussianRow(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  const auto uniform = [&] { return (engine() + 0.5) / 4294967296.0; };
  std::vector<float> row(count);
  for (float& x : row) {
    x = static_cast<float>(std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()));
  }
  return row;
}

inline std::vector<std::byte> Quantize(TensorType type, std::span<const float> row,
                                       std::span<const float> importance = {}) {
  const BlockFormat* format = FindBlockFormat(type);
  std::vector<std::byte> blocks(row.size() / format->block_elements * format->block_bytes);
  format->quantize(row.data(), importance.empty() ? nullptr : importance.data(), blocks.data(), row.size());
  return blocks;
}

inline std::vector<float> Dequantize(TensorType type, std::span<const std::byte> blocks) {
  const BlockFormat* format = FindBlockFormat(type);
  std::vector<float> row(blocks.size() / format->block_bytes * format->block_elements);
  format->dequantize(blocks.data(), row.data(), row.size());
  return row;
}

inline std::vector<float> RoundTrip(TensorType type, std::span<const float> row) {
  return Dequantize(type, Quantize(type, row));
}

// sqrt(sum (actual - wanted)^2 / sum wanted^2).
inline double RelativeError(std::span<const float> actual, std::span<const float> wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double difference = static_cast<double>(actual[i]) - wanted[i];
    error += difference * difference;
    norm += static_cast<double>(wanted[i]) * wanted[i];
  }
  return std::sqrt(error / norm);
}

}  // namespace tandem::engine
