// Inputs for the kernel tests: weights in file format and activations, random over many magnitudes or at the extremes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::testing {

using Rng = std::mt19937_64;

// The kernel sets of this machine beyond scalar.
inline std::vector<Isa> VectorIsas() {
  const std::span<const Isa> all = SupportedIsas();
  return {all.begin() + 1, all.end()};
}

inline std::vector<TensorType> KernelTypes() {
  std::vector<TensorType> types;
  for (const BlockFormat& format : AllBlockFormats()) {
    if (HasKernels(format.type)) types.push_back(format.type);
  }
  return types;
}

// A float of random sign, magnitude 2^low..2^high.
inline float RandomFloat(Rng& rng, int low, int high) {
  std::uniform_real_distribution<double> exponent(low, high);
  const double magnitude = std::exp2(exponent(rng));
  return static_cast<float>((rng() & 1) != 0 ? magnitude : -magnitude);
}

inline std::vector<float> RandomFloats(Rng& rng, size_t n, int low, int high) {
  std::vector<float> values(n);
  for (float& v : values) v = RandomFloat(rng, low, high);
  return values;
}

// A finite half of any magnitude, sub-normal ones included.
inline uint16_t RandomHalf(Rng& rng) {
  while (true) {
    const uint16_t half = static_cast<uint16_t>(rng());
    if ((half >> 10 & 31) != 31) return half;
  }
}

// Where a quantised format keeps its half floats. IQ1_M and MXFP4 have none.
struct HalvesAt {
  size_t at = 0;
  int count = 1;
};
inline HalvesAt FindHalves(TensorType type) {
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    case TensorType::kQ2_K:
      return {80, 2};
    case TensorType::kQ3_K:
      return {108, 1};
    case TensorType::kQ6_K:
      return {208, 1};
    case TensorType::kTQ1_0:
      return {52, 1};
    case TensorType::kTQ2_0:
      return {64, 1};
    case TensorType::kIQ1_M:
    case TensorType::kMXFP4:
      return {0, 0};
    default:
      return {0, 1};
  }
}

// Gives a block of a quantised format, all else of which is set, finite scales.
inline void SetRandomScales(Rng& rng, TensorType type, bool extreme, std::byte* block) {
  const auto half = [&] {
    constexpr uint16_t kEdges[] = {0x0001, 0x83ff, 0x7bff, 0x0000};
    return extreme ? kEdges[rng() % 4] : RandomHalf(rng);
  };
  const HalvesAt halves = FindHalves(type);
  for (int i = 0; i < halves.count; ++i) {
    const uint16_t bits = half();
    std::memcpy(block + halves.at + 2 * i, &bits, sizeof(bits));
  }
  if (type == TensorType::kIQ1_M) {
    const uint16_t bits = half();
    for (int i = 0; i < 4; ++i) {
      std::byte& top = block[49 + 2 * i];
      top = (top & std::byte{15}) | static_cast<std::byte>((bits >> (4 * i) & 15) << 4);
    }
  }
  if (type == TensorType::kMXFP4) {
    constexpr int kEdges[] = {0, 1, 2, 190};
    block[0] = static_cast<std::byte>(extreme ? kEdges[rng() % 4] : static_cast<int>(100 + rng() % 56));
  }
}

// Random weights in file format. With `extreme`, whole blocks are at the edges of the format: all bits set or only the
// top bit of each byte (int8 -128, largest nibbles, 6-bit scales of 63), zero, sub-normal or largest scales.
inline std::vector<std::byte> RandomWeights(Rng& rng, TensorType type, int64_t rows, int64_t cols, bool extreme) {
  const BlockFormat& format = *FindBlockFormat(type);
  const size_t blocks = rows * cols / format.block_elements;
  std::vector<std::byte> bytes(blocks * format.block_bytes);
  for (size_t b = 0; b < blocks; ++b) {
    std::byte* block = bytes.data() + b * format.block_bytes;
    if (type == TensorType::kF32) {
      const float value =
          extreme && rng() % 4 == 0 ? 0x1p-149f * static_cast<float>(rng() % 3) : RandomFloat(rng, -20, 8);
      std::memcpy(block, &value, sizeof(value));
      continue;
    }
    if (type == TensorType::kBF16) {
      const float value =
          extreme && rng() % 4 == 0 ? 0x1p-133f * static_cast<float>(rng() % 3) : RandomFloat(rng, -20, 8);
      format.quantize(&value, nullptr, block, 1);
      continue;
    }
    if (type == TensorType::kF16) {
      const uint16_t half = RandomHalf(rng);
      std::memcpy(block, &half, sizeof(half));
      continue;
    }
    const int kind = extreme ? static_cast<int>(rng() % 4) : 3;
    constexpr int kFill[] = {0xff, 0x80, 0x00};
    for (uint32_t i = 0; i < format.block_bytes; ++i) {
      block[i] = static_cast<std::byte>(kind < 3 ? kFill[kind] : static_cast<int>(rng() & 255));
    }
    SetRandomScales(rng, type, extreme, block);
  }
  return bytes;
}

// The values of weights in file format, [rows * cols].
inline std::vector<float> Dequantized(TensorType type, const std::vector<std::byte>& bytes, int64_t count) {
  std::vector<float> values(count);
  FindBlockFormat(type)->dequantize(bytes.data(), values.data(), values.size());
  return values;
}

// The same with the mins taken as zero, to tell the two parts of a weight, which may cancel.
inline std::vector<float> DequantizedWithoutMin(TensorType type, std::vector<std::byte> bytes, int64_t count) {
  const BlockFormat& format = *FindBlockFormat(type);
  if (format.has_mins) {
    const size_t dmin = FindHalves(type).at + 2;
    for (size_t at = 0; at < bytes.size(); at += format.block_bytes) {
      bytes[at + dmin] = bytes[at + dmin + 1] = std::byte{0};
    }
  }
  return Dequantized(type, bytes, count);
}

// Activations of every kind, owned. The int8 values are not quantised from the floats: they are an input of their own.
struct TestActivations {
  ActivationKind kind;
  int64_t cols;
  std::vector<float> f32, scale;
  std::vector<int8_t> q;
  std::vector<int32_t> sum16;

  Activations view() const { return {f32.data(), q.data(), scale.data(), sum16.data()}; }
  int64_t block() const { return kind == ActivationKind::kInt8Block32 ? 32 : 256; }
  // What the kernels see at [row, k].
  double Value(int64_t row, int64_t k) const {
    if (kind == ActivationKind::kF32) return f32[row * cols + k];
    return static_cast<double>(q[row * cols + k]) * scale[row * (cols / block()) + k / block()];
  }
};

inline TestActivations RandomActivations(Rng& rng, ActivationKind kind, int64_t rows, int64_t cols, bool extreme) {
  TestActivations x{kind, cols, {}, {}, {}, {}};
  if (kind == ActivationKind::kF32) {
    x.f32 = RandomFloats(rng, rows * cols, -12, 6);
    return x;
  }
  x.scale = RandomFloats(rng, rows * (cols / x.block()), extreme ? -126 : -16, extreme ? 10 : 3);
  x.q.resize(rows * cols);
  for (int64_t b = 0; b < rows * cols / 32; ++b) {
    const int kind_of_block = extreme ? static_cast<int>(rng() % 4) : 3;
    constexpr int kFill[] = {127, -127, 0};
    for (int i = 0; i < 32; ++i) {
      const int random = static_cast<int>(rng() % 255) - 127;
      x.q[32 * b + i] = static_cast<int8_t>(kind_of_block < 3 ? kFill[kind_of_block] : random);
    }
  }
  x.sum16.resize(x.q.size() / 16);
  for (size_t i = 0; i < x.q.size(); ++i) x.sum16[i / 16] += x.q[i];
  return x;
}

// Bit equality, with the place of the first difference.
inline std::string FirstDifference(const std::vector<float>& want, const std::vector<float>& got) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::memcmp(&want[i], &got[i], sizeof(float)) == 0) continue;
    char text[128];
    std::snprintf(text, sizeof(text), "element %zu of %zu: scalar %a, got %a", i, want.size(), want[i], got[i]);
    return text;
  }
  return "";
}

// Number of distinct values, to assert that an input is spread.
template <typename T>
size_t DistinctValues(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

}  // namespace tandem::engine::testing
