// F32, F16 and BF16: blocks of one element, stored as the IEEE (or truncated IEEE) number itself.
#include <bit>

#include "engine/quant/block_format.h"
#include "engine/quant/conversions.h"

namespace tandem::engine {
namespace {

constexpr uint32_t kF32Infinity = 0x7f800000;
constexpr uint32_t kF32MantissaBits = 23;
constexpr uint32_t kDroppedBits = 13;  // mantissa bits that a half does not have: 23 - 10
// (127 - 15) << 23: the difference of the two exponent biases, in place.
constexpr uint32_t kBiasDifference = 112u << kF32MantissaBits;
constexpr uint32_t kSmallestNormalHalf = 0x38800000;  // 2^-14 as a float
constexpr uint32_t kRoundsToInfinity = 0x477ff000;    // 65520: halfway from the largest half to the next power of two

// `mantissa >> shift`, rounded to nearest, ties to even. 1 <= shift <= 31.
uint32_t ShiftRoundEven(uint32_t mantissa, uint32_t shift) {
  const uint32_t quotient = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t tie = 1u << (shift - 1);
  return quotient + (rest > tie || (rest == tie && (quotient & 1)) ? 1 : 0);
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact and normal as a float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 0x1f) {
    const uint32_t quiet = mantissa != 0 ? 0x00400000u : 0;
    return std::bit_cast<float>(sign | kF32Infinity | quiet | (mantissa << kDroppedBits));
  }
  return std::bit_cast<float>(sign | ((exponent << kF32MantissaBits) + kBiasDifference + (mantissa << kDroppedBits)));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > kF32Infinity) {
    half = 0x7e00 | ((magnitude >> kDroppedBits) & 0x3ff);
  } else if (magnitude >= kRoundsToInfinity) {
    half = 0x7c00;
  } else if (magnitude >= kSmallestNormalHalf) {
    // A carry out of the mantissa raises the exponent, which is the right answer.
    half = ShiftRoundEven(magnitude - kBiasDifference, kDroppedBits);
  } else {
    // value = mantissa * 2^(exponent - 150), wanted in units of 2^-24.
    const uint32_t exponent = magnitude >> kF32MantissaBits;
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t shift = 126 - exponent;
    half = shift > 24 ? 0 : ShiftRoundEven(mantissa, shift);  // at 25 the mantissa is below half a unit
  }
  return static_cast<uint16_t>(sign | half);
}

void DequantizeF32(const std::byte* src, float* dst, size_t count) { std::memcpy(dst, src, count * sizeof(float)); }

void QuantizeF32(const float* src, const float*, std::byte* dst, size_t count) {
  std::memcpy(dst, src, count * sizeof(float));
}

void DequantizeF16(const std::byte* src, float* dst, size_t count) {
  for (size_t i = 0; i < count; ++i) dst[i] = HalfToFloat(LoadU16(src + 2 * i));
}

void QuantizeF16(const float* src, const float*, std::byte* dst, size_t count) {
  for (size_t i = 0; i < count; ++i) StoreU16(FloatToHalf(src[i]), dst + 2 * i);
}

// BF16 is the upper half of the float.
void DequantizeBf16(const std::byte* src, float* dst, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    dst[i] = std::bit_cast<float>(static_cast<uint32_t>(LoadU16(src + 2 * i)) << 16);
  }
}

// Rounds to nearest even; a NaN becomes quiet, so that dropping its low bits cannot turn it into infinity.
void QuantizeBf16(const float* src, const float*, std::byte* dst, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(src[i]);
    const bool nan = (bits & 0x7fffffff) > kF32Infinity;
    const uint32_t upper = nan ? (bits >> 16) | 0x40 : ShiftRoundEven(bits, 16);
    StoreU16(static_cast<uint16_t>(upper), dst + 2 * i);
  }
}

}  // namespace tandem::engine
