#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

inline float ToFloat(float value) { return value; }
inline float ToFloat(uint16_t half) { return HalfToFloat(half); }

// Keys and values by position. T: float or uint16_t (F16), the element of the pages.
template <typename T>
class Cache {
 public:
  explicit Cache(const AttentionArgs& args) : args_(args) {}

  float Key(int position, int d) const {
    const int slot = position % args_.page_tokens;
    const T* tile = Page(args_.keys, position) + int64_t{slot / kKeyTile} * kKeyTile * args_.key_dim;
    return ToFloat(tile[d * kKeyTile + slot % kKeyTile]);
  }
  float Value(int position, int d) const {
    if (args_.values == nullptr) return Key(position, d);
    return ToFloat(Page(args_.values, position)[int64_t{position % args_.page_tokens} * args_.value_dim + d]);
  }

 private:
  const T* Page(const std::byte* first, int position) const {
    return reinterpret_cast<const T*>(first + args_.pages[position / args_.page_tokens] * args_.page_bytes);
  }
  const AttentionArgs& args_;
};

template <typename T>
float Score(const AttentionArgs& args, const Cache<T>& cache, const float* q, int position) {
  float s = 0.0f;
  for (int d = 0; d < args.key_dim; ++d) s = std::fma(q[d], cache.Key(position, d), s);
  s *= args.scale;
  if (args.cap != 0.0f) s = args.cap - 2.0f * args.cap / (1.0f + CanonicalExp(s * (2.0f / args.cap)));
  return s;
}

float Fold16(float* p) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) p[i] += p[i + half];
  }
  return p[0];
}

template <typename T>
void AttentionQueryHead(const AttentionArgs& args, const AttentionQuery& query) {
  const Cache<T> cache(args);
  float m = -std::numeric_limits<float>::infinity();
  float l[kKeyTile] = {};
  std::fill_n(query.out, args.value_dim, 0.0f);
  for (int block = query.first_key / kKeyBlock * kKeyBlock; block < query.num_keys; block += kKeyBlock) {
    const int begin = std::max(query.first_key, block), end = std::min(query.num_keys, block + kKeyBlock);
    float p[kKeyBlock];
    float block_max = m;
    for (int j = begin; j < end; ++j) {
      p[j - block] = Score(args, cache, query.q, j);
      block_max = p[j - block] > block_max ? p[j - block] : block_max;
    }
    const float correction = CanonicalExp(m - block_max);
    m = block_max;
    for (float& sum : l) sum *= correction;
    for (int j = begin; j < end; ++j) {
      p[j - block] = CanonicalExp(p[j - block] - m);
      l[j % kKeyTile] += p[j - block];
    }
    for (int d = 0; d < args.value_dim; ++d) {
      float o = query.out[d] * correction;
      for (int j = begin; j < end; ++j) o = std::fma(p[j - block], cache.Value(j, d), o);
      query.out[d] = o;
    }
  }
  float sum = Fold16(l);
  if (query.sink != nullptr) {
    const float with_sink = *query.sink > m ? *query.sink : m;
    const float correction = CanonicalExp(m - with_sink);
    sum = std::fma(sum, correction, CanonicalExp(*query.sink - with_sink));
    for (int d = 0; d < args.value_dim; ++d) query.out[d] *= correction;
  }
  for (int d = 0; d < args.value_dim; ++d) query.out[d] /= sum;
}

}  // namespace

void Attention(const AttentionArgs& args) {
  for (int i = 0; i < args.count; ++i) {
    if (args.type == KvType::kF16) {
      AttentionQueryHead<uint16_t>(args, args.queries[i]);
    } else {
      AttentionQueryHead<float>(args, args.queries[i]);
    }
  }
}

}  // namespace tandem::engine::scalar
