// A block of a Q4_0 KV cache: 32 elements as 4-bit integers with one scale. Weights take longer to find a better scale
// (engine/quant); this is done for every token.
#pragma once

#include <cstdint>

namespace tandem::engine {

inline constexpr int32_t kKvBlock = 32;

// x ~ d * q for 32 elements, q of -8 to 7; returns d as F16. The element of largest magnitude, the first of equal ones,
// becomes -8: d is that element / -8, q = x / d rounded half to even. NaN becomes -8.
uint16_t QuantizeToInt4(const float* x, int8_t* q);

// Turns the integers into 16 bytes, in place: of each 2 * `near` neighbours, the first half goes to the low nibbles,
// the second to the high ones. `near` divides 16.
void JoinNibbles(int32_t near, int8_t* q);

}  // namespace tandem::engine
