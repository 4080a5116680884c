#include "engine/cpu/kernels/avx2/simd.h"
#include "engine/cpu/kernels/kernels.h"

namespace tandem::engine::avx2 {
namespace {

constexpr int kTile = 16;

// How an element of the pages is read: 8 or 4 (upper lanes zero) at a time.
struct F32Pages {
  static constexpr int kBytes = 4;
  static __m256 Load8(const std::byte* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static __m128 Load4(const std::byte* p) { return _mm_loadu_ps(reinterpret_cast<const float*>(p)); }
};

struct F16Pages {
  static constexpr int kBytes = 2;
  static __m256 Load8(const std::byte* p) { return _mm256_cvtph_ps(Load128(p)); }
  static __m128 Load4(const std::byte* p) { return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
};

inline __m256 Widen(__m128 v) { return _mm256_set_m128(_mm_setzero_ps(), v); }

// dot16 of q and four keys. A short tail adds zero products, which can only turn a partial -0 into +0: the sign of a
// zero score has no influence on the result.
template <typename Pages>
inline __m128 FourDots(const float* q, const std::byte* const (&k)[4], int dim) {
  __m256 sum[4][2] = {};
  int d = 0;
  for (; d + 16 <= dim; d += 16) {
    for (int h = 0; h < 2; ++h) {
      const __m256 qd = _mm256_loadu_ps(q + d + 8 * h);
      for (int i = 0; i < 4; ++i) {
        sum[i][h] = _mm256_fmadd_ps(qd, Pages::Load8(k[i] + (d + 8 * h) * Pages::kBytes), sum[i][h]);
      }
    }
  }
  int h = 0;
  if (d + 8 <= dim) {
    const __m256 qd = _mm256_loadu_ps(q + d);
    for (int i = 0; i < 4; ++i) sum[i][0] = _mm256_fmadd_ps(qd, Pages::Load8(k[i] + d * Pages::kBytes), sum[i][0]);
    d += 8;
    h = 1;
  }
  if (d < dim) {
    const __m256 qd = Widen(_mm_loadu_ps(q + d));
    for (int i = 0; i < 4; ++i) {
      sum[i][h] = _mm256_fmadd_ps(qd, Widen(Pages::Load4(k[i] + d * Pages::kBytes)), sum[i][h]);
    }
  }
  __m256 folded[4];
  for (int i = 0; i < 4; ++i) folded[i] = _mm256_add_ps(sum[i][0], sum[i][1]);
  return FoldAfter8(folded);
}

// out[0..8 * kVectors) = out * correction, then + p_j * v_j for each key in order.
template <typename Pages, int kVectors>
inline void AddValues(const float* p, int keys, const std::byte* v, int64_t stride, __m256 correction, float* out) {
  __m256 o[kVectors];
  for (int i = 0; i < kVectors; ++i) o[i] = _mm256_mul_ps(_mm256_loadu_ps(out + 8 * i), correction);
  for (int j = 0; j < keys; ++j, v += stride) {
    const __m256 pj = _mm256_broadcast_ss(p + j);
    for (int i = 0; i < kVectors; ++i) o[i] = _mm256_fmadd_ps(pj, Pages::Load8(v + 8 * i * Pages::kBytes), o[i]);
  }
  for (int i = 0; i < kVectors; ++i) _mm256_storeu_ps(out + 8 * i, o[i]);
}

template <typename Pages>
inline void AddAllValues(const float* p, int keys, const std::byte* v, int64_t stride, int dim, float correction,
                         float* out) {
  const __m256 c = _mm256_set1_ps(correction);
  int d = 0;
  for (; d + 64 <= dim; d += 64) AddValues<Pages, 8>(p, keys, v + d * Pages::kBytes, stride, c, out + d);
  for (; d + 8 <= dim; d += 8) AddValues<Pages, 1>(p, keys, v + d * Pages::kBytes, stride, c, out + d);
  if (d == dim) return;
  __m128 o = _mm_mul_ps(_mm_loadu_ps(out + d), _mm_set1_ps(correction));
  for (int j = 0; j < keys; ++j) {
    o = _mm_fmadd_ps(_mm_set1_ps(p[j]), Pages::Load4(v + j * stride + d * Pages::kBytes), o);
  }
  _mm_storeu_ps(out + d, o);
}

// Scores of the keys [first, end) of a tile; the others become -infinity, whose exp is 0.
template <typename Pages>
inline void Scores(const AttentionArgs& args, const std::byte* k, int first, int end, float (&s)[kTile]) {
  const int64_t stride = static_cast<int64_t>(args.key_stride) * Pages::kBytes;
  for (float& score : s) score = 0.0f;
  for (int j = first / 4 * 4; j < end; j += 4) {
    const std::byte* four[4];
    for (int i = 0; i < 4; ++i) four[i] = k + (j + i < end ? j + i : end - 1) * stride;
    const __m128 dots = FourDots<Pages>(args.q, four, args.key_dim);
    _mm_storeu_ps(s + j, _mm_mul_ps(_mm_set1_ps(args.scale), dots));
  }
  if (args.cap != 0.0f) {
    for (int j = 0; j < kTile; j += 8) _mm256_storeu_ps(s + j, Capped(_mm256_loadu_ps(s + j), args.cap));
  }
  for (int j = 0; j < first; ++j) s[j] = -__builtin_inff();
  for (int j = end; j < kTile; ++j) s[j] = -__builtin_inff();
}

inline float ExpOne(float x) { return _mm256_cvtss_f32(Exp(_mm256_set1_ps(x))); }

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
    float p[kTile];
    Scores<Pages>(args, k, first, end, p);
    float tile_max = m;
    for (int j = first; j < end; ++j) tile_max = p[j] > tile_max ? p[j] : tile_max;
    const __m256 max8 = _mm256_set1_ps(tile_max);
    const __m256 p0 = Exp(_mm256_sub_ps(_mm256_loadu_ps(p), max8));
    const __m256 p1 = Exp(_mm256_sub_ps(_mm256_loadu_ps(p + 8), max8));
    _mm256_storeu_ps(p, p0);
    _mm256_storeu_ps(p + 8, p1);
    const float correction = begin == first_tile ? 0.0f : ExpOne(m - tile_max);
    m = tile_max;
    const std::byte* v = args.v_pages[page] + (token + first) * value_stride;
    AddAllValues<Pages>(p + first, end - first, v, value_stride, dim, correction, args.out);
    l = __builtin_fmaf(l, correction, FoldAfter8(_mm256_add_ps(p0, p1)));
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

}  // namespace tandem::engine::avx2
