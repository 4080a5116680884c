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
  const int dim = args.head_dim;
  float m = -std::numeric_limits<float>::infinity();
  float l = 0.0f;
  std::fill_n(args.out, dim, 0.0f);
  for (int begin = 0; begin < args.num_keys; begin += kTile) {
    const int64_t offset = static_cast<int64_t>(begin % args.page_tokens) * dim;
    const T* k = reinterpret_cast<const T*>(args.k_pages[begin / args.page_tokens]) + offset;
    const T* v = reinterpret_cast<const T*>(args.v_pages[begin / args.page_tokens]) + offset;
    const int keys = std::min(kTile, args.num_keys - begin);
    float p[kTile] = {};
    float tile_max = m;
    for (int j = 0; j < keys; ++j) {
      p[j] = args.scale * Dot16(args.q, k + j * dim, dim);
      tile_max = p[j] > tile_max ? p[j] : tile_max;
    }
    const float correction = begin == 0 ? 0.0f : CanonicalExp(m - tile_max);
    m = tile_max;
    for (int j = 0; j < keys; ++j) p[j] = CanonicalExp(p[j] - m);
    for (int d = 0; d < dim; ++d) {
      float o = args.out[d] * correction;
      for (int j = 0; j < keys; ++j) o = std::fma(p[j], ToFloat(v[j * dim + d]), o);
      args.out[d] = o;
    }
    l = std::fma(l, correction, Fold16(p));
  }
  for (int d = 0; d < dim; ++d) args.out[d] /= l;
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
