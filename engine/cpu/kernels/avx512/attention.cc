#include "engine/cpu/kernels/attention_walk.h"

#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

// 16 lanes for AttentionWalk.
struct Lanes {
  using Floats = __m512;
  static constexpr int kChains = 16, kQueries = 8;

  static Floats Zero() { return _mm512_setzero_ps(); }
  static Floats Set1(float x) { return _mm512_set1_ps(x); }
  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static Floats LoadF16(const std::byte* p) { return LoadHalves(p); }
  static Floats LoadBF16(const std::byte* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load256(p)), 16));
  }
  static Floats LoadInt8(const std::byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(Load128(p))); }
  static Floats LoadNibbles(const std::byte* p, int upper) {
    const __m128i shifted = _mm_sll_epi16(Load128(p), _mm_cvtsi32_si128(4 - 4 * upper));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_and_si128(shifted, _mm_set1_epi8(-16))));
  }
  template <int kBits>
  static Floats PartOfWords(const std::byte* p, int first_bit) {
    const __m512i top = _mm512_sll_epi32(Load512(p), _mm_cvtsi32_si128(32 - kBits - first_bit));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(top, 32 - kBits));
  }
  static void Store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static Floats Add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats Sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats Fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats Max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static float MaxOf(Floats x) { return _mm512_reduce_max_ps(x); }
  static float First(Floats x) { return _mm512_cvtss_f32(x); }
  static float Fold(Floats x) { return FoldAfter8(FoldBy8(x)); }
  static Floats Exp(Floats x) { return engine::Exp(x); }

  // cap * tanh(s / cap).
  static Floats Capped(Floats s, float cap) {
    const __m512 e = engine::Exp(_mm512_mul_ps(s, _mm512_set1_ps(2.0f / cap)));
    const __m512 below = _mm512_div_ps(_mm512_set1_ps(2.0f * cap), _mm512_add_ps(_mm512_set1_ps(1.0f), e));
    return _mm512_sub_ps(_mm512_set1_ps(cap), below);
  }

  // The instruction wants one side unsigned: keys are taken 128 larger, and the sum starts at what that adds too much.
  using Unit = __m512i;
  using Sums = __m512i;
  static Unit LoadUnit(const std::byte* p) { return _mm512_xor_si512(Load512(p), _mm512_set1_epi8(-128)); }
  static Unit LoadNibbleUnit(const std::byte* p, int upper) {
    constexpr int kXorAnd = 0x78;  // of three bits: a ^ (b & c)
    const __m512i shifted = _mm512_sll_epi16(Load512(p), _mm_cvtsi32_si128(4 - 4 * upper));
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(-128), shifted, _mm512_set1_epi8(-16), kXorAnd);
  }
  static Sums DotStart(int32_t query_sum) { return _mm512_set1_epi32(-128 * query_sum); }
  static Sums Dot(Sums sum, Unit keys, int32_t word) { return _mm512_dpbusd_epi32(sum, keys, _mm512_set1_epi32(word)); }
  static Floats DotEnd(Sums sum) { return _mm512_cvtepi32_ps(sum); }

  static Floats Visible(Floats s, int first, int end) {
    const __mmask16 visible = LaneMask(end < 16 ? end : 16) & static_cast<__mmask16>(~LaneMask(first));
    return _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), visible, s);
  }

  static void Transpose(Floats (&x)[16]) {
    __m512 pairs[16];
    for (int i = 0; i < 16; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    // quads[4 g + c]: rows 4 g ... 4 g + 3 of columns c, c + 4, c + 8, c + 12.
    __m512d quads[16];
    for (int i = 0; i < 16; i += 4) {
      for (int half = 0; half < 2; ++half) {
        const __m512d low = _mm512_castps_pd(pairs[i + half]), high = _mm512_castps_pd(pairs[i + 2 + half]);
        quads[i + 2 * half] = _mm512_unpacklo_pd(low, high);
        quads[i + 2 * half + 1] = _mm512_unpackhi_pd(low, high);
      }
    }
    for (int c = 0; c < 4; ++c) {
      const __m512 a = _mm512_castpd_ps(quads[c]), b = _mm512_castpd_ps(quads[4 + c]);
      const __m512 e = _mm512_castpd_ps(quads[8 + c]), f = _mm512_castpd_ps(quads[12 + c]);
      const __m512 ab_even = _mm512_shuffle_f32x4(a, b, 0x88), ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
      const __m512 ef_even = _mm512_shuffle_f32x4(e, f, 0x88), ef_odd = _mm512_shuffle_f32x4(e, f, 0xdd);
      x[c] = _mm512_shuffle_f32x4(ab_even, ef_even, 0x88);
      x[c + 4] = _mm512_shuffle_f32x4(ab_odd, ef_odd, 0x88);
      x[c + 8] = _mm512_shuffle_f32x4(ab_even, ef_even, 0xdd);
      x[c + 12] = _mm512_shuffle_f32x4(ab_odd, ef_odd, 0xdd);
    }
  }
};

}  // namespace

void Attention(const AttentionArgs& args) { AttentionOf<Lanes>(args); }

}  // namespace tandem::engine::avx512
