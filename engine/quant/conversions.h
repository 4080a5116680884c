// Internal to engine/quant: the conversions that fill the table of formats. Contract of each: BlockFormat in
// block_format.h. Layouts and formulas are written at the definitions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem::engine {

void DequantizeF32(const std::byte* src, float* dst, size_t count);
void DequantizeF16(const std::byte* src, float* dst, size_t count);
void DequantizeBf16(const std::byte* src, float* dst, size_t count);

void QuantizeF32(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeF16(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeBf16(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ4_0(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ4_1(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ5_0(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ5_1(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ8_0(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ2K(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ3K(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ4K(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ5K(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeQ6K(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeIq4Nl(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeIq4Xs(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeMxfp4(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeTq1_0(const float* src, const float* importance, std::byte* dst, size_t count);
void QuantizeTq2_0(const float* src, const float* importance, std::byte* dst, size_t count);

// Blocks are packed and may lie at any address, so fields of several bytes are read and written by copy.
inline uint16_t LoadU16(const std::byte* src) {
  uint16_t value;
  std::memcpy(&value, src, sizeof(value));
  return value;
}
inline uint32_t LoadU32(const std::byte* src) {
  uint32_t value;
  std::memcpy(&value, src, sizeof(value));
  return value;
}
inline void StoreU16(uint16_t value, std::byte* dst) { std::memcpy(dst, &value, sizeof(value)); }
inline void StoreU32(uint32_t value, std::byte* dst) { std::memcpy(dst, &value, sizeof(value)); }

}  // namespace tandem::engine
