#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

constexpr int kTile = 16;

inline float ToFloat(float value) { return value; }
inline float ToFloat(uint16_t half) { return HalfToFloat(half); }

float Fold16(float* p) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) p[i] += p[i + half];
  }
  return p[0];
}

template <typename T>
float Dot16(const float* q, const T* k, int n) {
  float partial[16] = {};
  for (int d = 0; d < n; ++d) partial[d % 16] = std::fma(q[d], ToFloat(k[d]), partial[d % 16]);
  return Fold16(partial);
}

// T: float or uint16_t (F16), the element of the pages.
template <typename T>
void AttentionHead(const AttentionArgs& args) {
  float m = -std::numeric_limits<float>::infinity();
  float l = 0.0f;
  std::fill_n(args.out, args.value_dim, 0.0f);
  const int first_tile = args.first_key / kTile * kTile;
  for (int begin = first_tile; begin < args.num_keys; begin += kTile) {
    const int page = begin / args.page_tokens;
    const int64_t token = begin % args.page_tokens;
    const T* k = reinterpret_cast<const T*>(args.k_pages[page]) + token * args.key_stride;
    const T* v = reinterpret_cast<const T*>(args.v_pages[page]) + token * args.value_stride;
    const int first = std::max(0, args.first_key - begin), end = std::min(kTile, args.num_keys - begin);
    float p[kTile] = {};
    float tile_max = m;
    for (int j = first; j < end; ++j) {
      p[j] = args.scale * Dot16(args.q, k + j * args.key_stride, args.key_dim);
      if (args.cap != 0.0f) {
        p[j] = args.cap - 2.0f * args.cap / (1.0f + CanonicalExp(p[j] * (2.0f / args.cap)));
      }
      tile_max = p[j] > tile_max ? p[j] : tile_max;
    }
    const float correction = begin == first_tile ? 0.0f : CanonicalExp(m - tile_max);
    m = tile_max;
    for (int j = first; j < end; ++j) p[j] = CanonicalExp(p[j] - m);
    for (int d = 0; d < args.value_dim; ++d) {
      float o = args.out[d] * correction;
      for (int j = first; j < end; ++j) o = std::fma(p[j], ToFloat(v[j * args.value_stride + d]), o);
      args.out[d] = o;
    }
    l = std::fma(l, correction, Fold16(p));
  }
  if (args.sink != nullptr) {
    const float with_sink = *args.sink > m ? *args.sink : m;
    const float correction = CanonicalExp(m - with_sink);
    l = std::fma(l, correction, CanonicalExp(*args.sink - with_sink));
    for (int d = 0; d < args.value_dim; ++d) args.out[d] *= correction;
  }
  for (int d = 0; d < args.value_dim; ++d) args.out[d] /= l;
}

}  // namespace

void Attention(const AttentionArgs& args) {
  if (args.kv_f16) {
    AttentionHead<uint16_t>(args);
  } else {
    AttentionHead<float>(args);
  }
}

}  // namespace tandem::engine::scalar
