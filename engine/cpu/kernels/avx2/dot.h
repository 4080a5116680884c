// How the int8 kernels of AVX2 and AVX-VNNI, whose sources are the same, sum up products. A Dot says:
//   MaxUnits(top)       how many units (of 4 elements) of fields 0..top may be added to the same `products`; 0: such
//                       fields have to be made signed bytes first, whose SignedProducts are scaled one by one
//   Add                 products += fields * x, the four products of a row in its lane
//   ScaleOperand        scales of 8 rows, int32, as Scaled takes them
//   Scaled              the sums of the lanes times the scales of their rows
//   Signed, AddSigned   sum += weights * x for signed bytes, in the form that Signed gives them: as int32, and with
//                       kSignedBias * x too much
// Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/avx2/simd.h"

namespace tandem::engine {
namespace {

// AVX2: pairs of products, summed as int16.
struct PairDot {
  static constexpr int kSignedBias = 0;

  static constexpr int MaxUnits(int top) {
    const int units = 32767 / (2 * 127 * top);
    return units >= 8 ? 8 : units >= 4 ? 4 : units >= 2 ? 2 : units;
  }
  static __m256i Add(__m256i products, __m256i fields, __m256i x) {
    return _mm256_add_epi16(products, _mm256_maddubs_epi16(fields, x));
  }
  // |w| * (x with the sign of w): |w| <= 128 and |x| <= 127, so two products fit an int16 and nothing saturates.
  static __m256i SignedProducts(__m256i weights, __m256i x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
  }
  // Twice, as a pair of int16.
  static __m256i ScaleOperand(__m256i scale) { return _mm256_blend_epi16(scale, _mm256_slli_epi32(scale, 16), 0xaa); }
  static __m256i Scaled(__m256i products, __m256i scale) { return _mm256_madd_epi16(products, scale); }

  static __m256i Signed(__m256i weights) { return weights; }
  static __m256i AddSigned(__m256i sum, __m256i weights, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(SignedProducts(weights, x), _mm256_set1_epi16(1)));
  }
};

#ifdef __AVXVNNI__
// AVX-VNNI: four products a lane, summed as int32.
struct VnniDot {
  static constexpr int kSignedBias = 128;

  static constexpr int MaxUnits(int /*top*/) { return 8; }
  static __m256i Add(__m256i products, __m256i fields, __m256i x) {
    return _mm256_dpbusd_avx_epi32(products, fields, x);
  }
  static __m256i ScaleOperand(__m256i scale) { return scale; }
  static __m256i Scaled(__m256i products, __m256i scale) { return _mm256_mullo_epi32(products, scale); }

  static __m256i Signed(__m256i weights) { return _mm256_xor_si256(weights, _mm256_set1_epi8(-128)); }
  static __m256i AddSigned(__m256i sum, __m256i weights, __m256i x) { return Add(sum, weights, x); }
};
#endif

}  // namespace
}  // namespace tandem::engine
