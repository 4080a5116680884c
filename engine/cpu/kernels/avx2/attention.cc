#include "engine/cpu/kernels/attention_walk.h"

#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

// Transposes 8 x 8 floats.
inline void Transpose8(__m256 (&x)[8]) {
  __m256 pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  __m256 quads[8];
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; ++half) {
      quads[i + 2 * half] = _mm256_shuffle_ps(pairs[i + half], pairs[i + 2 + half], 0x44);
      quads[i + 2 * half + 1] = _mm256_shuffle_ps(pairs[i + half], pairs[i + 2 + half], 0xee);
    }
  }
  for (int c = 0; c < 4; ++c) {
    x[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
    x[c + 4] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
  }
}

// 16 lanes for AttentionWalk.
struct Lanes {
  using Floats = Float16Rows;
  static constexpr int kChains = 4, kQueries = 4;

  static Floats Zero() { return ZeroRows(); }
  static Floats Set1(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
  static Floats Load(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
  static Floats LoadF16(const std::byte* p) { return LoadHalves(p); }
  static Floats LoadBF16(const std::byte* p) {
    const __m256i low = _mm256_cvtepu16_epi32(Load128(p)), high = _mm256_cvtepu16_epi32(Load128(p + 16));
    return {{_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))}};
  }
  static Floats FromInt8(__m128i bytes) {
    return {{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
             _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))}};
  }
  static Floats LoadInt8(const std::byte* p) { return FromInt8(Load128(p)); }
  static Floats LoadNibbles(const std::byte* p, int upper) {
    const __m128i shifted = _mm_sll_epi16(Load128(p), _mm_cvtsi32_si128(4 - 4 * upper));
    return FromInt8(_mm_and_si128(shifted, _mm_set1_epi8(-16)));
  }
  template <int kBits>
  static Floats PartOfWords(const std::byte* p, int first_bit) {
    const __m128i shift = _mm_cvtsi32_si128(32 - kBits - first_bit);
    const __m256i low = _mm256_sll_epi32(Load256(p), shift), high = _mm256_sll_epi32(Load256(p + 32), shift);
    return {{_mm256_cvtepi32_ps(_mm256_srai_epi32(low, 32 - kBits)),
             _mm256_cvtepi32_ps(_mm256_srai_epi32(high, 32 - kBits))}};
  }
  static void Store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.half[0]);
    _mm256_storeu_ps(p + 8, x.half[1]);
  }
  static Floats Add(Floats a, Floats b) {
    return {{_mm256_add_ps(a.half[0], b.half[0]), _mm256_add_ps(a.half[1], b.half[1])}};
  }
  static Floats Sub(Floats a, Floats b) {
    return {{_mm256_sub_ps(a.half[0], b.half[0]), _mm256_sub_ps(a.half[1], b.half[1])}};
  }
  static Floats Mul(Floats a, Floats b) {
    return {{_mm256_mul_ps(a.half[0], b.half[0]), _mm256_mul_ps(a.half[1], b.half[1])}};
  }
  static Floats Fma(Floats a, Floats b, Floats c) {
    return {{_mm256_fmadd_ps(a.half[0], b.half[0], c.half[0]), _mm256_fmadd_ps(a.half[1], b.half[1], c.half[1])}};
  }
  static Floats Max(Floats a, Floats b) {
    return {{_mm256_max_ps(a.half[0], b.half[0]), _mm256_max_ps(a.half[1], b.half[1])}};
  }
  static float MaxOf(Floats x) {
    const __m256 by8 = _mm256_max_ps(x.half[0], x.half[1]);
    const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
    const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
    return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
  }
  static float First(Floats x) { return _mm256_cvtss_f32(x.half[0]); }
  static float Fold(Floats x) { return FoldAfter8(_mm256_add_ps(x.half[0], x.half[1])); }
  static Floats Exp(Floats x) { return {{engine::Exp(x.half[0]), engine::Exp(x.half[1])}}; }
  static Floats Capped(Floats s, float cap) {
    return {{engine::Capped(s.half[0], cap), engine::Capped(s.half[1], cap)}};
  }

  // |k| * (q with the sign of k): at most 128 and 127, so two products fit int16 and nothing saturates.
  struct Unit {
    __m256i half[2];
  };
  using Sums = Unit;
  static Unit LoadUnit(const std::byte* p) { return {{Load256(p), Load256(p + 32)}}; }
  static Unit LoadNibbleUnit(const std::byte* p, int upper) {
    const __m128i shift = _mm_cvtsi32_si128(4 - 4 * upper);
    const __m256i mask = _mm256_set1_epi8(-16);
    return {{_mm256_and_si256(_mm256_sll_epi16(Load256(p), shift), mask),
             _mm256_and_si256(_mm256_sll_epi16(Load256(p + 32), shift), mask)}};
  }
  static Sums DotStart(int32_t) { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
  static __m256i Dot8(__m256i sum, __m256i keys, __m256i word) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(keys), _mm256_sign_epi8(word, keys));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Sums Dot(Sums sum, Unit keys, int32_t word) {
    const __m256i four = _mm256_set1_epi32(word);
    return {{Dot8(sum.half[0], keys.half[0], four), Dot8(sum.half[1], keys.half[1], four)}};
  }
  static Floats DotEnd(Sums sum) { return {{_mm256_cvtepi32_ps(sum.half[0]), _mm256_cvtepi32_ps(sum.half[1])}}; }

  static __m256 Visible8(__m256 s, int first, int end) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(first), lanes);
    const __m256i until = _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lanes);
    const __m256 visible = _mm256_castsi256_ps(_mm256_andnot_si256(before, until));
    return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), s, visible);
  }
  static Floats Visible(Floats s, int first, int end) {
    return {{Visible8(s.half[0], first, end), Visible8(s.half[1], first - 8, end - 8)}};
  }

  static void Transpose(Floats (&x)[16]) {
    __m256 parts[2][2][8];  // [half of the rows, half of the columns]
    for (int i = 0; i < 16; ++i) {
      for (int half = 0; half < 2; ++half) parts[i / 8][half][i % 8] = x[i].half[half];
    }
    for (auto& rows : parts) {
      for (auto& part : rows) Transpose8(part);
    }
    for (int i = 0; i < 16; ++i) {
      for (int half = 0; half < 2; ++half) x[i].half[half] = parts[half][i / 8][i % 8];
    }
  }
};

}  // namespace

void Attention(const AttentionArgs& args) { AttentionOf<Lanes>(args); }

}  // namespace tandem::engine::avx2
