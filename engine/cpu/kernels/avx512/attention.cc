#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx512 {
namespace {

constexpr int kTile = 16;

// How 16 elements of the pages are read, lanes outside the mask as zero.
struct F32Pages {
  static constexpr int kBytes = 4;
  static __m512 Load(__mmask16 mask, const std::byte* p) { return _mm512_maskz_loadu_ps(mask, p); }
};

struct F16Pages {
  static constexpr int kBytes = 2;
  static __m512 Load(__mmask16 mask, const std::byte* p) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p)); }
};

constexpr __mmask16 kAllLanes = 0xffff;

// dot16 of q and four keys. A short tail adds zero products, which can only turn a partial -0 into +0: the sign of a
// zero score has no influence on the result.
template <typename Pages>
inline __m128 FourDots(const float* q, const std::byte* const (&k)[4], int dim) {
  __m512 sum[4] = {};
  for (int d = 0; d < dim; d += 16) {
    const __mmask16 mask = LaneMask(dim - d < 16 ? dim - d : 16);
    const __m512 qd = _mm512_maskz_loadu_ps(mask, q + d);
    for (int i = 0; i < 4; ++i) sum[i] = _mm512_fmadd_ps(qd, Pages::Load(mask, k[i] + d * Pages::kBytes), sum[i]);
  }
  const __m256 folded[4] = {FoldBy8(sum[0]), FoldBy8(sum[1]), FoldBy8(sum[2]), FoldBy8(sum[3])};
  return FoldAfter8(folded);
}

// out[0..16 * kVectors) = out * correction, then + p_j * v_j for each key in order. `mask` is for the last vector.
template <typename Pages, int kVectors>
inline void AddValues(const float* p, int keys, const std::byte* v, int64_t stride, float correction, __mmask16 mask,
                      float* out) {
  const __m512 c = _mm512_set1_ps(correction);
  __m512 o[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    o[i] = _mm512_mul_ps(_mm512_maskz_loadu_ps(i + 1 < kVectors ? kAllLanes : mask, out + 16 * i), c);
  }
  for (int j = 0; j < keys; ++j, v += stride) {
    const __m512 pj = _mm512_set1_ps(p[j]);
    for (int i = 0; i < kVectors; ++i) {
      const __mmask16 lanes = i + 1 < kVectors ? kAllLanes : mask;
      o[i] = _mm512_fmadd_ps(pj, Pages::Load(lanes, v + 16 * i * Pages::kBytes), o[i]);
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    _mm512_mask_storeu_ps(out + 16 * i, i + 1 < kVectors ? kAllLanes : mask, o[i]);
  }
}

template <typename Pages>
inline void AddAllValues(const float* p, int keys, const std::byte* v, int64_t stride, int dim, float correction,
                         float* out) {
  int d = 0;
  for (; d + 128 <= dim; d += 128) {
    AddValues<Pages, 8>(p, keys, v + d * Pages::kBytes, stride, correction, kAllLanes, out + d);
  }
  for (; d + 64 <= dim; d += 64) {
    AddValues<Pages, 4>(p, keys, v + d * Pages::kBytes, stride, correction, kAllLanes, out + d);
  }
  for (; d < dim; d += 16) {
    const __mmask16 mask = LaneMask(dim - d < 16 ? dim - d : 16);
    AddValues<Pages, 1>(p, keys, v + d * Pages::kBytes, stride, correction, mask, out + d);
  }
}

// cap * tanh(s / cap).
inline __m512 Capped(__m512 s, float cap) {
  const __m512 e = Exp(_mm512_mul_ps(s, _mm512_set1_ps(2.0f / cap)));
  const __m512 below = _mm512_div_ps(_mm512_set1_ps(2.0f * cap), _mm512_add_ps(_mm512_set1_ps(1.0f), e));
  return _mm512_sub_ps(_mm512_set1_ps(cap), below);
}

// Scores of the keys [first, end) of a tile; the others become -infinity, whose exp is 0.
template <typename Pages>
inline __m512 Scores(const AttentionArgs& args, const std::byte* k, int first, int end) {
  const int64_t stride = static_cast<int64_t>(args.key_stride) * Pages::kBytes;
  float s[kTile];
  for (int j = first / 4 * 4; j < end; j += 4) {
    const std::byte* four[4];
    for (int i = 0; i < 4; ++i) four[i] = k + (j + i < end ? j + i : end - 1) * stride;
    _mm_storeu_ps(s + j, FourDots<Pages>(args.q, four, args.key_dim));
  }
  const __mmask16 visible = LaneMask(end) & static_cast<__mmask16>(~LaneMask(first));
  __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(args.scale), _mm512_maskz_loadu_ps(visible, s));
  if (args.cap != 0.0f) scaled = Capped(scaled, args.cap);
  return _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), visible, scaled);
}

inline float ExpOne(float x) { return _mm512_cvtss_f32(Exp(_mm512_set1_ps(x))); }

template <typename Pages>
inline void AttentionHead(const AttentionArgs& args) {
  const int dim = args.value_dim;
  const int64_t value_stride = static_cast<int64_t>(args.value_stride) * Pages::kBytes;
  const int first_tile = args.first_key / kTile * kTile;
  float m = -__builtin_inff();
  float l = 0.0f;
  for (int d = 0; d < dim; ++d) args.out[d] = 0.0f;
  for (int begin = first_tile; begin < args.num_keys; begin += kTile) {
    const int page = begin / args.page_tokens;
    const int64_t token = begin % args.page_tokens;
    const std::byte* k = args.k_pages[page] + token * args.key_stride * Pages::kBytes;
    const int first = args.first_key > begin ? args.first_key - begin : 0;
    const int end = args.num_keys - begin < kTile ? args.num_keys - begin : kTile;
    const __m512 s = Scores<Pages>(args, k, first, end);
    const float s_max = _mm512_reduce_max_ps(s);
    const float tile_max = s_max > m ? s_max : m;
    const __m512 p = Exp(_mm512_sub_ps(s, _mm512_set1_ps(tile_max)));
    const float correction = begin == first_tile ? 0.0f : ExpOne(m - tile_max);
    m = tile_max;
    float weights[kTile];
    _mm512_storeu_ps(weights, p);
    const std::byte* v = args.v_pages[page] + (token + first) * value_stride;
    AddAllValues<Pages>(weights + first, end - first, v, value_stride, dim, correction, args.out);
    l = __builtin_fmaf(l, correction, FoldAfter8(FoldBy8(p)));
  }
  float correction = 1.0f;
  if (args.sink != nullptr) {
    const float with_sink = *args.sink > m ? *args.sink : m;
    correction = ExpOne(m - with_sink);
    l = __builtin_fmaf(l, correction, ExpOne(*args.sink - with_sink));
  }
  for (int d = 0; d < dim; d += 4) {
    const __m128 o = _mm_mul_ps(_mm_loadu_ps(args.out + d), _mm_set1_ps(correction));
    _mm_storeu_ps(args.out + d, _mm_div_ps(o, _mm_set1_ps(l)));
  }
}

}  // namespace

void Attention(const AttentionArgs& args) {
  if (args.kv_f16) {
    AttentionHead<F16Pages>(args);
  } else {
    AttentionHead<F32Pages>(args);
  }
}

}  // namespace tandem::engine::avx512
