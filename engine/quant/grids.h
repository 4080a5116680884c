// The codebooks of the IQ1, IQ2 and IQ3 formats: which combinations of magnitudes a code stands for. They are part of
// the public definition of the formats (tables iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid and iq1s_grid
// of ggml's ggml-common.h, MIT licence), kept here in compact form: one code is one 16-bit number.
//
//   IQ1, IQ2  eight elements of 2 bits, element k at bit 2k
//   IQ3       four elements of 4 bits (3 used), element k at bit 4k
//
// What an element's bits stand for: the level tables below. Included by kernels: plain data only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::engine {

// Vector kernels gather 32 bits at a code's place, so each table has one spare entry at its end.
inline constexpr size_t kGridPadding = 1;

extern const uint16_t kGridIq2Xxs[256 + kGridPadding];
extern const uint16_t kGridIq2Xs[512 + kGridPadding];
extern const uint16_t kGridIq2S[1024 + kGridPadding];
extern const uint16_t kGridIq3Xxs[256 + kGridPadding];
extern const uint16_t kGridIq3S[512 + kGridPadding];
extern const uint16_t kGridIq1[2048 + kGridPadding];

// Levels in units of the format's scale. 16 entries, the operand of a byte lookup; those past the format's own are
// never reached. IQ1 stores -1, 0, 1, to which +-1/8 is added: all in eighths.
inline constexpr int8_t kLevelsIq2[16] = {8, 25, 43};
inline constexpr int8_t kLevelsIq3Xxs[16] = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr int8_t kLevelsIq3S[16] = {1, 3, 5, 7, 9, 11, 13, 15};
inline constexpr int8_t kLevelsIq1[16] = {-8, 0, 8};
// The nibbles of IQ4_NL and IQ4_XS, and of MXFP4 (E2M1 numbers, doubled).
inline constexpr int8_t kLevelsIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kLevelsMxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace tandem::engine
