// Internal to engine/quant: the conversions that fill the table of formats, one pair a format. Contract of each:
// BlockFormat in block_format.h. Layouts and formulas are written at the definitions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem::engine {

void DequantizeF32(const std::byte* src, float* dst, size_t count);
void QuantizeF32(const float* src, std::byte* dst, size_t count);
void DequantizeF16(const std::byte* src, float* dst, size_t count);
void QuantizeF16(const float* src, std::byte* dst, size_t count);
void DequantizeBf16(const std::byte* src, float* dst, size_t count);
void QuantizeBf16(const float* src, std::byte* dst, size_t count);
void DequantizeQ8_0(const std::byte* src, float* dst, size_t count);
void QuantizeQ8_0(const float* src, std::byte* dst, size_t count);
void DequantizeQ4K(const std::byte* src, float* dst, size_t count);
void QuantizeQ4K(const float* src, std::byte* dst, size_t count);
void DequantizeQ6K(const std::byte* src, float* dst, size_t count);
void QuantizeQ6K(const float* src, std::byte* dst, size_t count);

// Blocks are packed and may lie at any address, so 16-bit fields are read and written by copy.
inline uint16_t LoadU16(const std::byte* src) {
  uint16_t value;
  std::memcpy(&value, src, sizeof(value));
  return value;
}
inline void StoreU16(uint16_t value, std::byte* dst) { std::memcpy(dst, &value, sizeof(value)); }

}  // namespace tandem::engine
